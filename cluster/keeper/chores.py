"""Everything that a keeper does."""

from __future__ import annotations

from cluster.keeper.fits_chore import FitsChore
from cluster.keeper.janitor_chore import JanitorChore
from cluster.keeper.keeper import Chore, Keeper
from cluster.keeper.ledger_chore import LedgerChore
from cluster.keeper.probe_chore import ProbeChore
from cluster.platform import Platform
from cluster.settings import Settings


def make_keeper(settings: Settings) -> Keeper:
    """A keeper with all chores, for the services of ``settings``."""
    platform = Platform(settings)
    chores: list[Chore] = [LedgerChore(platform), FitsChore(platform), ProbeChore(platform), JanitorChore(platform)]
    return Keeper(platform.state.seats, chores)
