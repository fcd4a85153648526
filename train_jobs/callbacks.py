"""What a running fit tells the platform, and what the platform learns when a worker dies.

JobMonitor        what the work tells, passed on to the lease of its job
MetricLog         metrics over steps in the model registry
StepCheckpoints   the fit's step checkpoints, copied to the object store now and then
BlameCallback     runs beside Ray Train's controller: finds out whose worker died, so that only that fit pays
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ray.train import UserCallback

from cluster.archives import get_archive, put_archive
from cluster.control.fit_requests import FitRequest
from cluster.ids import FitId, TenantId
from cluster.registry import Registry
from cluster.settings import Settings
from cluster.state.jobs import Claim, JobRecord, Jobs
from cluster.state.lease import Lease
from cluster.state.problems import Problem
from cluster.state.store import StateStore
from cluster.storage import ObjectStore
from m2dao.errors import LeaseLost, ServiceUnavailable, UnknownJob

logger = logging.getLogger(__name__)

LEASE_S = 30.0  # how long a worker may be silent; a state store that is away for less costs nothing
STEPS_EVERY_S = 20.0  # what a killed worker loses at most, beyond the step it was at
METRICS_EVERY_S = 2.0

# Shares of the whole way, from timing fits of a few minutes; they only steer a progress bar.
STAGES = {
    "fetch": (0.0, 0.02),
    "prepare": (0.02, 0.2),
    "fit": (0.2, 0.86),
    "evaluate": (0.86, 0.97),
    "register": (0.97, 1.0),
}


class JobMonitor:
    """The ``FitMonitor`` of a claimed job: what the work tells goes into the job's lease.

    Args:
        lease: of the job; every call of the work raises ``LeaseLost`` once it is lost.
        on_capture: called when the capture is complete.
        on_step: called with (step, values) at steps of the optimisation.
    """

    def __init__(
        self,
        lease: Lease,
        *,
        on_capture: Callable[[], None],
        on_step: Callable[[int, Mapping[str, float]], None],
    ):
        self._lease, self._on_capture, self._on_step = lease, on_capture, on_step
        self._stage, self._began = "", time.monotonic()
        self.seconds: dict[str, float] = {}  # stage -> seconds spent in it

    def stage(self, name: str, fraction: float, detail: str = "") -> None:
        """See ``FitMonitor.stage``; ``name`` is a key of ``STAGES``."""
        low, high = STAGES[name]
        self._count(name)
        progress = low + (high - low) * min(max(fraction, 0.0), 1.0)
        self._lease.tell(f"{name}: {detail}" if detail else name, progress)

    def capture_ready(self) -> None:
        self._lease.check()
        self._on_capture()

    def step(self, step: int, values: Mapping[str, float]) -> None:
        self._lease.check()
        self._on_step(step, values)

    def end(self) -> None:
        """Count the time of the last stage."""
        self._count("")

    def _count(self, name: str) -> None:
        if name != self._stage:
            now = time.monotonic()
            if self._stage:
                self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._began
            self._stage, self._began = name, now


class StepCheckpoints:
    """Copies of a fit's step checkpoints in the object store, one object that is replaced.

    Args:
        store: the object store.
        key: where the copy is.
        folder: the work folder of the fit.
        every_s: seconds between copies; 0 copies at every step at which the folder has changed.
    """

    def __init__(self, store: ObjectStore, key: str, folder: Path, *, every_s: float = STEPS_EVERY_S):
        self._store, self._key, self._folder = store, key, folder
        self._every_s = every_s
        self._saved_at = time.monotonic()
        self._saved = self._state()

    def restore(self) -> bool:
        """Bring back what was copied last; returns whether there was anything."""
        found = get_archive(self._store, self._key, self._folder)
        self._saved = self._state()
        return found

    def save_if_due(self) -> bool:
        """Copy the folder when it has changed and the last copy is old enough; returns whether it was copied.

        A store that does not answer costs the copy, not the fit.
        """
        if time.monotonic() - self._saved_at < self._every_s:
            return False
        state = self._state()
        if not state or state == self._saved:
            return False
        self._saved_at = time.monotonic()
        try:
            put_archive(self._store, self._key, self._folder)
        except ServiceUnavailable as error:
            logger.warning("step checkpoint %s: %s", self._key, error)
            return False
        self._saved = state
        return True

    def forget(self) -> None:
        """Delete the copy."""
        self._store.delete(self._key)

    def _state(self) -> list[tuple[str, int, int]]:
        if not self._folder.is_dir():
            return []
        files = sorted(path for path in self._folder.rglob("*") if path.is_file())
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


class MetricLog:
    """Metrics over steps in the model registry, not more often than makes sense.

    The curve of a fit is worth having, but no fit ends because the registry was away while it ran.
    """

    def __init__(self, registry: Registry, job: JobRecord, request: FitRequest, *, every_s: float = METRICS_EVERY_S):
        self._registry, self._job, self._request = registry, job, request
        self._every_s = every_s
        self._sent_at = -every_s

    def begin(self) -> None:
        """Open the run and note what was asked for; a retried fit goes on in the run it began."""
        options = self._request.options.as_dict()
        self._send(0, {}, {name: str(value) for name, value in options.items()})

    def add(self, step: int, values: Mapping[str, float]) -> None:
        now = time.monotonic()
        if values and now - self._sent_at >= self._every_s:
            self._sent_at = now
            self._send(step, values, None)

    def _send(self, step: int, values: Mapping[str, float], params: Mapping[str, str] | None) -> None:
        job = self._job
        try:
            self._registry.runs.log(
                job.tenant, self._request.identity, job.id, step=step, metrics=values, params=params
            )
        except ServiceUnavailable as error:
            logger.warning("metrics of %s: %s", job.id, error)


def worker_name(batch: str, generation: str, rank: int) -> str:
    """What a worker of a cohort calls itself when it claims a job."""
    return f"{batch}/{generation}/{rank}"


def _rank_of(batch: str, job: JobRecord) -> int | None:
    """The rank of the cohort's worker that has the job, if one of them has it."""
    owner, _, rest = job.worker.partition("/")
    generation, _, rank = rest.partition("/")
    if job.status != "running" or owner != batch or not rank.isdigit():
        return None
    return int(rank)


def known_jobs(jobs: Jobs, tenant: TenantId, fit_ids: Iterable[FitId]) -> list[JobRecord]:
    """The fits' jobs, without those that have been deleted."""
    found = []
    for fit_id in fit_ids:
        with contextlib.suppress(UnknownJob):
            found.append(jobs.get(tenant, fit_id))
    return found


def running_jobs(jobs: Jobs, tenant: TenantId, batch: str, fit_ids: Iterable[FitId]) -> dict[FitId, tuple[int, Claim]]:
    """The fits that workers of this cohort have claimed: fit -> (rank, claim)."""
    found = {}
    for job in known_jobs(jobs, tenant, fit_ids):
        rank = _rank_of(batch, job)
        if rank is not None:
            found[job.id] = rank, Claim(job=job, fence=job.fence, worker=job.worker)
    return found


def take_back(jobs: Jobs, tenant: TenantId, batch: str, fit_ids: Iterable[FitId], *, keep_generation: str = "") -> int:
    """Queue again, uncounted, what dead workers of this cohort had claimed; returns how many fits that were.

    Args:
        keep_generation: workers of this generation are alive; theirs is left alone.
    """
    count = 0
    for _, claim in running_jobs(jobs, tenant, batch, fit_ids).values():
        if claim.worker.split("/")[1] == keep_generation:
            continue
        try:
            jobs.release(claim)
            count += 1
        except LeaseLost:
            logger.info("fit %s changed hands before it was taken back", claim.job.id)
    return count


class BlameCallback(UserCallback):
    """Charges the death of a worker to the fit that it was working on, and to no other.

    Ray Train restarts all workers when one dies. Without this, every fit of the cohort would lose an attempt.
    """

    def __init__(self, tenant: TenantId, batch: str, fit_ids: tuple[FitId, ...]):
        self._tenant, self._batch, self._fit_ids = tenant, batch, fit_ids

    def after_exception(self, run_context, worker_exceptions: dict[int, Exception]) -> None:
        jobs = StateStore(Settings.from_env()).jobs
        try:
            for fit_id, (rank, claim) in running_jobs(jobs, self._tenant, self._batch, self._fit_ids).items():
                if rank in worker_exceptions:
                    self._blame(jobs, fit_id, claim)
        except ServiceUnavailable as error:  # raising here would end the whole cohort; the lease will run out instead
            logger.warning("cannot tell whose worker died: %s", error)

    def _blame(self, jobs: Jobs, fit_id: FitId, claim: Claim) -> None:
        job = claim.job
        at = job.stage or "the beginning"
        detail = f"the worker died while it was at: {at} (attempt {job.attempt} of {job.max_attempts})"
        logger.warning("fit %s (%s): %s", fit_id, job.request.get("identity"), detail)
        try:
            title = "The process that ran the fit ended without a word"
            jobs.fail(claim, Problem(code="worker-died", title=title, detail=detail), retry=True)
        except LeaseLost:
            logger.info("fit %s changed hands before its worker's death was known", fit_id)
