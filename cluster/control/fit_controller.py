"""Starts the fits that wait: a fit that is queued is a fit that starts, whoever died in between.

``FitService`` only queues fits. The controller looks at all open fits and sees to it that each batch has a job on the
compute cluster: one that was never submitted, and one whose job has ended and left fits behind. It keeps no record of
its own, so the next one goes on where this one was killed.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from cluster.control.batch_jobs import BatchJobs
from cluster.control.fit_requests import ENGINE_WORK, FitRequest
from cluster.ids import TenantId
from cluster.state.jobs import Jobs
from cluster.state.problems import Problem
from cluster.state.records import JobRecord
from cluster.telemetry.traces import spans
from m2dao.errors import InputError, LeaseLost

logger = logging.getLogger(__name__)

MOST_WAITING = 8  # batches of a tenant on the cluster that wait for a place; those with priority pass the others here
_FIRST_WAIT_S = 4.0  # before a job is submitted again that left fits behind; doubled each time
_MOST_WAIT_S = 300.0


class FitController:
    """Gives every open fit a job on the cluster.

    Args:
        jobs: the fits.
        cluster: runs one job for each batch.
        work: the work function that the cluster is to run, as ``module:attribute``.
        job_flags: more flags for ``train_jobs.job``.
        job_env: more environment variables for it.
    """

    def __init__(
        self,
        jobs: Jobs,
        cluster: BatchJobs,
        *,
        work: str = ENGINE_WORK,
        job_flags: Sequence[str] = (),
        job_env: Mapping[str, str] | None = None,
    ):
        self._jobs, self._cluster = jobs, cluster
        self._work, self._job_flags, self._job_env = work, tuple(job_flags), dict(job_env or {})
        self._waits: dict[str, tuple[float, float]] = {}  # batch -> (not before, next wait)

    def start(self, check: Callable[[], None] = lambda: None) -> int:
        """Submit what has no job, what has priority first; returns how many jobs were submitted.

        A tenant has few batches that wait on the cluster: each costs a process there, and the cluster knows no turns.

        Args:
            check: called before each submission; raises when somebody else has become the controller.

        Raises:
            ClusterUnavailable: the cluster does not answer; the fits wait.
        """
        batches: dict[tuple[TenantId, str], list[JobRecord]] = defaultdict(list)
        for job in self._jobs.open("fit"):
            try:
                batches[job.tenant, FitRequest.of(job).batch].append(job)
            except InputError as error:
                check()
                self._refuse(job, error)
        self._waits = {batch: wait for batch, wait in self._waits.items() if any(batch == name for _, name in batches)}
        waiting: Counter[TenantId] = Counter()  # batches that were submitted and wait for a place
        count = 0
        for (tenant, batch), jobs in sorted(batches.items(), key=_turn):
            if waiting[tenant] >= MOST_WAITING and _waits(jobs):
                continue
            count += self._start(tenant, batch, jobs, check)
            if (
                self._waits.get(batch, (0.0, 0.0))[1] <= 2 * _FIRST_WAIT_S
            ):  # one that is submitted again holds up nobody
                waiting[tenant] += _waits(jobs)
        return count

    def _refuse(self, job: JobRecord, error: InputError) -> None:
        """End a fit of another version that nobody can read: it would wait for ever."""
        with job.worked_on():
            claim = self._jobs.claim("fit", worker="fit controller", lease_s=30.0, tenant=job.tenant, job_id=job.id)
            if claim is not None:
                logger.warning("a fit is refused", extra={"error": str(error)})
                with contextlib.suppress(LeaseLost):
                    self._jobs.fail(claim, Problem.of(error))

    def _start(self, tenant: TenantId, batch: str, jobs: Sequence[JobRecord], check: Callable[[], None]) -> bool:
        not_before, wait_s = self._waits.get(batch, (0.0, _FIRST_WAIT_S))
        if time.monotonic() < not_before:
            return False
        last = self._cluster.last(batch)
        if last is not None:
            state = self._cluster.state(last)
            if not state.ended:
                return False
            told = {"tenant": str(tenant), "submission": last, "said": state.message}
            logger.warning("a job left fits behind", extra=told)
        check()
        flags = [word for job in jobs for word in ("--fit", str(job.id))]
        words = ["--tenant", str(tenant), "--batch", batch, "--work", self._work, *self._job_flags, *flags]
        began_s = time.time()
        submission_id = self._cluster.submit(batch, words, self._job_env)
        for job in jobs:
            with job.worked_on():
                logger.info("fit submitted", extra={"submission": submission_id, "num_fits": len(jobs)})
                spans.record("submit", began_s, time.time(), run=submission_id, num_fits=len(jobs))
        self._waits[batch] = time.monotonic() + wait_s, min(_MOST_WAIT_S, 2 * wait_s)
        return True


def _turn(batch: tuple[tuple[TenantId, str], Sequence[JobRecord]]) -> tuple[int, float]:
    """Where a batch stands in line: by priority, then by age."""
    jobs = batch[1]
    return -max(FitRequest.of(job).priority for job in jobs), min(job.created_s for job in jobs)


def _waits(jobs: Sequence[JobRecord]) -> bool:
    """Whether no fit of a batch is at work."""
    return all(job.status == "queued" for job in jobs)
