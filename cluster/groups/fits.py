"""Settings of the workers that do fits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cluster.groups.group import Group, number


class FitSettings(Group):
    """The shape of a worker that does fits, the same for each, and how many a batch may have."""

    cpus: int = number(1, 1, 256, "Cores reserved for a worker that does fits; it uses as many threads.")
    gpus: float = number(0.0, 0.0, 16, "GPUs (or a part of one) reserved for a worker that does fits.")
    memory_mb: int = number(2000, 100, 10_000_000, "Memory reserved for a worker that does fits, in MB.")
    max_workers: int = number(
        8, 1, 1000, "Most workers of a batch of fits. Those the cluster has no place for yet wait for one."
    )
    max_open: int = number(
        20, 1, 100_000, "Fits that a tenant may have queued and running when it asks for one over HTTP; 429 beyond it."
    )
    max_minutes: float = number(
        120.0, 0.1, 1440, "Longest time of a fit that a tenant may ask for over HTTP, in minutes; 422 beyond it."
    )
    backend: Literal["cpu", "gsplat"] | None = Field(
        default=None, description="By what fits render. Unset: gsplat where their workers have a GPU, else cpu."
    )

    @property
    def chosen_backend(self) -> str:
        """By what fits render. The settings say so, never what a machine happens to have."""
        return self.backend or ("gsplat" if self.gpus else "cpu")
