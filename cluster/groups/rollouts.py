"""Settings of what the keeper does about versions whose renders fail."""

from __future__ import annotations

from cluster.groups.group import Group, number


class RolloutSettings(Group):
    """When a version is taken out of service by itself."""

    min_renders: int = number(
        10, 1, 1_000_000, "Renders of a version since the last promotion before their failures are judged."
    )
    max_failed_share: float = number(
        0.3, 0.0, 1.0, "Share of a version's renders that may fail; beyond it the keeper rolls back. 1: never."
    )
