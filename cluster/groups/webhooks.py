"""Settings of webhooks."""

from __future__ import annotations

from pydantic import Field

from cluster.groups.group import Group, number


class WebhookSettings(Group):
    """How tenants are told of events."""

    allow_private: bool = Field(
        default=False,
        description="Tell webhooks at addresses of private networks and this machine too, and without TLS. "
        "For tests, and for sites that are their only tenant: any tenant reaches inner services with it.",
    )
    answer_s: float = number(10.0, 0.1, 60, "Longest time in which a webhook must have answered, in seconds.")
    max_per_tenant: int = number(20, 1, 100, "Webhooks that a tenant may have.")
    keep_days: float = number(
        7.0, 0.01, 365, "Days for which it is known what webhooks were told, and can be replayed."
    )
