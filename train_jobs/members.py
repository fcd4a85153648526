"""The fits of a batch and the workers that have claimed them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.ids import FitId, TenantId
from cluster.state.jobs import Jobs
from cluster.state.records import Claim, JobRecord
from m2dao.errors import LeaseLost, UnknownJob
from train_jobs.step_checkpoints import STEPS_EVERY_S

logger = logging.getLogger(__name__)

LEASE_S = 30.0  # how long a worker may be silent; a state store that is away for less costs nothing


@dataclass(frozen=True, kw_only=True)
class BatchSpec:
    """The fits that one Ray job does together.

    Args:
        name: part of what its workers call themselves.
        tenant: whose fits they are.
        fit_ids: the fits, in the order in which they are begun.
        lease_s: seconds a worker may be silent before its fit is given to another.
        steps_every_s: seconds between copies of step checkpoints to the object store.
    """

    name: str
    tenant: TenantId
    fit_ids: tuple[FitId, ...]
    lease_s: float = LEASE_S
    steps_every_s: float = STEPS_EVERY_S


def worker_name(batch: BatchSpec, generation: str, rank: int) -> str:
    """What a worker of a batch calls itself when it claims a job."""
    return f"{batch.name}/{generation}/{rank}"


def known_jobs(jobs: Jobs, batch: BatchSpec) -> list[JobRecord]:
    """The jobs of the batch's fits, without those that have been deleted."""
    found = []
    for fit_id in batch.fit_ids:
        with contextlib.suppress(UnknownJob):
            found.append(jobs.get(batch.tenant, fit_id))
    return found


def running_jobs(jobs: Jobs, batch: BatchSpec) -> dict[FitId, tuple[int, Claim]]:
    """The fits that workers of this batch have claimed: fit -> (rank, claim)."""
    found = {}
    for job in known_jobs(jobs, batch):
        rank = _rank_of(batch, job)
        if rank is not None:
            found[job.fit_id] = rank, Claim(job=job, fence=job.fence, worker=job.worker)
    return found


def ranks_at_work(batch: BatchSpec, records: Iterable[JobRecord]) -> set[int]:
    """The ranks of the batch's workers that are at a fit."""
    return {rank for job in records if (rank := _rank_of(batch, job)) is not None}


def take_back(jobs: Jobs, batch: BatchSpec, *, rank: int | None = None, keep_generation: str = "") -> int:
    """Queue again, uncounted, what dead workers of this batch had claimed; returns how many.

    Args:
        rank: only what this one had claimed; the others may be alive.
        keep_generation: workers of this generation are alive; theirs is left alone.
    """
    count = 0
    for owner, claim in running_jobs(jobs, batch).values():
        if rank not in (None, owner) or claim.worker.split("/")[1] == keep_generation:
            continue
        try:
            jobs.release(claim)
            count += 1
        except LeaseLost:
            with claim.job.worked_on():
                logger.info("fit %s changed hands before it was taken back", claim.job.id)
    return count


def _rank_of(batch: BatchSpec, job: JobRecord) -> int | None:
    """The rank of the batch's worker that has the job, if one of them has it."""
    owner, _, rest = job.worker.partition("/")
    generation, _, rank = rest.partition("/")
    if job.status != "running" or owner != batch.name or not rank.isdigit():
        return None
    return int(rank)
