"""Carries out the batches of tenants."""

from __future__ import annotations

from functools import cached_property

from cluster.control.champions import Champions
from cluster.control.fleet.batches import Batches
from cluster.platform import Platform
from cluster.state.lease import Lease

LOOK_S = 1.0


class BatchesChore:
    """Goes on with every open batch."""

    name = "batches"

    def __init__(self, platform: Platform):
        self._platform = platform

    @cached_property
    def _batches(self) -> Batches:
        platform = self._platform
        return Batches(platform.state, platform.store, Champions(platform.state))

    def do(self, lease: Lease) -> float:
        self._batches.step(lease.check)
        return LOOK_S
