"""Everything that a keeper does."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.control.fit_requests import ENGINE_WORK
from cluster.keeper.batches_chore import BatchesChore
from cluster.keeper.fits_chore import FitsChore
from cluster.keeper.janitor_chore import JanitorChore
from cluster.keeper.keeper import Chore, Keeper
from cluster.keeper.ledger_chore import LedgerChore
from cluster.keeper.metrics_chore import MetricsChore
from cluster.keeper.probe_chore import ProbeChore
from cluster.keeper.recordings_chore import RecordingsChore
from cluster.keeper.rollouts_chore import RolloutsChore
from cluster.keeper.usage_chore import UsageChore
from cluster.keeper.webhooks_chore import WebhooksChore
from cluster.platform import Platform
from cluster.settings import Settings


def make_keeper(settings: Settings, *, work: str = ENGINE_WORK, job_flags: Sequence[str] = ()) -> Keeper:
    """A keeper with all chores, for the services of ``settings``.

    Args:
        settings: where the services are.
        work: what a fit is, as ``module:attribute``.
        job_flags: more flags for the job that does fits.
    """
    platform = Platform(settings)
    figures = MetricsChore(platform, settings.metrics)
    chores: list[Chore] = [
        LedgerChore(platform),
        FitsChore(platform, work=work, job_flags=job_flags),
        ProbeChore(platform),
        RecordingsChore(platform),
        RolloutsChore(platform),
        BatchesChore(platform),
        JanitorChore(platform),
        UsageChore(platform),
        WebhooksChore(platform),
        figures,
    ]
    return Keeper(platform.state.seats, chores, on_failed=figures.count_failure, on_rest=figures.rest)
