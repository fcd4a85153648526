"""Keeps MLflow in step with the state store: writes what moved, and looks for what people changed."""

from __future__ import annotations

import time
from functools import cached_property

from cluster.control.champions import Champions
from cluster.control.gate import Promotions
from cluster.control.reconciler import Reconciler
from cluster.platform import Platform
from cluster.state.lease import Lease

TELL_S = 0.5  # how late MLflow shows a move
LOOK_S = 2.0  # how late a change in MLflow is seen, while reading all of it is quick
_SHARE = 5  # reading all of it may take this part of the time
_MOST_LOOK_S = 30.0
_LATEST_S = 50.0  # how late a change is seen at most, unless reading all of it takes nearly as long


class LedgerChore:
    """Tells MLflow at once, and reads it as often as it can be read cheaply."""

    name = "ledger"

    def __init__(self, platform: Platform):
        self._platform = platform
        self._look_at = 0.0

    @cached_property
    def _reconciler(self) -> Reconciler:
        """Made when the seat is ours: MLflow's client takes seconds to import."""
        registry, state = self._platform.registry, self._platform.state
        return Reconciler(state, registry.ledger, Promotions(state.versions, Champions(state)))

    def do(self, lease: Lease) -> float:
        self._reconciler.take_over()
        lease.check()
        self._reconciler.tell()
        began = time.monotonic()
        if began >= self._look_at:
            lease.check()
            self._reconciler.look()
            took_s = time.monotonic() - began
            self._look_at = time.monotonic() + rest_s(took_s)
        return TELL_S


def rest_s(took_s: float) -> float:
    """How long to leave MLflow alone after reading all of it.

    A change made just after it was passed by is seen after the rest and one more reading.
    """
    return max(LOOK_S, min(_MOST_LOOK_S, _SHARE * took_s, _LATEST_S - took_s))
