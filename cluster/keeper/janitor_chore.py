"""Removes, every hour, what nobody needs any more."""

from __future__ import annotations

import logging
from functools import cached_property

from cluster.control.janitor import Janitor
from cluster.platform import Platform
from cluster.state.lease import Lease

logger = logging.getLogger(__name__)

EVERY_S = 3600.0


class JanitorChore:
    """Cleans the stores of all tenants."""

    name = "janitor"

    def __init__(self, platform: Platform):
        self._platform = platform

    @cached_property
    def _janitor(self) -> Janitor:
        platform = self._platform
        hours = platform.settings.recordings.upload_hours
        return Janitor(platform.state, platform.store, platform.registry, upload_hours=hours)

    def do(self, lease: Lease) -> float:
        removed = self._janitor.clean(lease.check)
        if any(removed.values()):
            logger.info("removed what nobody needs", extra={name: count for name, count in removed.items() if count})
        return EVERY_S
