"""Counts what is stored at the end of each day, and forgets what was used long ago."""

from __future__ import annotations

from datetime import timedelta

from cluster.platform import Platform
from cluster.state.lease import Lease
from cluster.state.resources.usage import today

EVERY_S = 600.0  # how late the storage of a day is complete


class UsageChore:
    """Keeps the usage of all tenants."""

    name = "usage"

    def __init__(self, platform: Platform):
        self._platform = platform

    def do(self, lease: Lease) -> float:
        state, day = self._platform.state, today()
        oldest = day - timedelta(days=self._platform.settings.usage.keep_days)
        for tenant in state.accounts.list_tenants():
            lease.check()
            state.usage.count_storage(tenant, day)
            state.usage.forget(tenant, oldest)
        return EVERY_S
