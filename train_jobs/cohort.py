"""One worker of a cohort: pull a fit, do it, register it, pull the next.

No Ray in here: a worker is a plain object with its collaborators, so every rule below is tested without a cluster.

The rules of pulling:

1. A fit that has never failed is *fresh*. Any worker takes any fresh fit of the cohort.
2. A fit whose worker died, or that failed in a way that may not be its fault, is a *suspect*. It runs again only
   when no fresh fit is waiting or running, and alone, on worker 0. A fit that kills its worker (and with it, as Ray Train
   restarts all workers together, the work of its neighbours since their last step checkpoint) can do so once.
3. Attempts are counted per fit, by the job store.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.archives import get_archive, put_archive
from cluster.control.fit_requests import FitRequest
from cluster.control.gate import CAPTURE_TAG, GateThresholds, promote
from cluster.ids import FitId, TenantId
from cluster.registry import Registry
from cluster.settings import Settings
from cluster.state.jobs import Claim, JobRecord
from cluster.state.lease import Lease
from cluster.state.problems import Problem
from cluster.state.store import StateStore
from cluster.storage import ObjectStore
from m2dao.errors import (
    FitError,
    InputError,
    LeaseLost,
    LockBusy,
    PromotionConflict,
    PromotionRefused,
    ServiceUnavailable,
)
from train_jobs.callbacks import (
    LEASE_S,
    METRICS_EVERY_S,
    STEPS_EVERY_S,
    JobMonitor,
    MetricLog,
    StepCheckpoints,
    known_jobs,
    worker_name,
)
from train_jobs.work import FitOutcome, FitTask, FitWork

logger = logging.getLogger(__name__)

ABANDONED_S = 2 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The fits that one Ray job does together.

    Args:
        batch: name of the cohort; part of what its workers call themselves.
        tenant: whose fits they are.
        fit_ids: the fits, in the order in which they are begun.
        lease_s: seconds a worker may be silent before its fit is given to another.
        steps_every_s: seconds between copies of step checkpoints to the object store.
    """

    batch: str
    tenant: TenantId
    fit_ids: tuple[FitId, ...]
    lease_s: float = LEASE_S
    steps_every_s: float = STEPS_EVERY_S


@dataclass(frozen=True, kw_only=True)
class Platform:
    """The services a worker uses."""

    state: StateStore
    store: ObjectStore
    registry: Registry

    @classmethod
    def connect(cls, settings: Settings) -> Platform:
        store = ObjectStore(settings)
        return cls(state=StateStore(settings), store=store, registry=Registry(settings, store=store))


class CohortWorker:
    """Pulls fits of a cohort until there are none left for it.

    Args:
        platform: the services.
        cohort: what to pull from.
        rank: which worker this is; 0 also does the suspects.
        generation: tells the workers of one start apart from those of earlier ones.
        work: what a fit is.
        num_threads: for the work to use.
        scratch: folder for files of running fits; each fit cleans up after itself.
    """

    def __init__(
        self,
        platform: Platform,
        cohort: Cohort,
        work: FitWork,
        *,
        rank: int = 0,
        generation: str = "0",
        num_threads: int = 1,
        scratch: Path | None = None,
    ):
        self._platform, self._cohort, self._work = platform, cohort, work
        self._rank, self._num_threads = rank, num_threads
        self._name = worker_name(cohort.batch, generation, rank)
        self._scratch = scratch or Path(tempfile.gettempdir()) / f"m2dao-fits-{os.getuid()}"

    def clean(self) -> None:
        """Remove what killed workers left on this machine; call it while no other worker of the cohort is working.

        The files show a person, so those of other cohorts go too once they are certainly nobody's any more.
        """
        if not self._scratch.is_dir():
            return
        names = {str(fit_id) for fit_id in self._cohort.fit_ids}
        for folder in self._scratch.iterdir():
            fit_id, _, _ = folder.name.rpartition("-")
            with contextlib.suppress(OSError):
                if fit_id in names or time.time() - folder.stat().st_mtime > ABANDONED_S:
                    shutil.rmtree(folder, ignore_errors=True)

    def run(self) -> int:
        """Work until nothing is left for this worker; returns how many fits it took on."""
        count = 0
        while (claim := self._next()) is not None:
            count += 1
            if not self._do(claim):
                logger.warning("%s has been given up by its supervisor and stops", self._name)
                break
        return count

    # -- pulling ----------------------------------------------------------------------------------------------

    def _next(self) -> Claim | None:
        jobs = self._platform.state.jobs
        with self._platform.state.events.subscribe("jobs") as changes:
            while True:
                jobs.requeue_expired("fit")
                records = known_jobs(jobs, self._cohort.tenant, self._cohort.fit_ids)
                fresh = [job for job in records if job.status == "queued" and job.attempt == 0]
                for job in fresh:
                    if (claim := self._claim(job)) is not None:
                        return claim
                if self._rank != 0:
                    return None
                running = [job for job in records if job.status == "running"]
                suspects = [job for job in records if job.status == "queued" and job.attempt > 0]
                if not running and not fresh:
                    if not suspects:
                        return None
                    if (claim := self._claim(suspects[0])) is not None:
                        return claim
                changes.get(timeout_s=1.0)  # or look again: messages can be missed

    def _claim(self, job: JobRecord) -> Claim | None:
        return self._platform.state.jobs.claim(
            "fit", worker=self._name, lease_s=self._cohort.lease_s, tenant=job.tenant, job_id=job.id
        )

    # -- working ----------------------------------------------------------------------------------------------

    def _do(self, claim: Claim) -> bool:
        """One fit from claim to result. Whatever goes wrong ends up in its job, not in this worker.

        Returns:
            whether this worker may go on: not when its fit was taken back, for then the worker is believed dead.
        """
        jobs = self._platform.state.jobs
        try:
            fit = _Fit(self._platform, self._cohort, claim, self._work, self._num_threads, self._scratch)
            result = fit.run()
            jobs.finish(claim, result)
        except LeaseLost as error:
            logger.warning("%s", error)
            return not self._taken_back(claim)
        except (InputError, FitError) as error:  # doing it again would end the same way
            self._fail(claim, error, retry=False)
        except Exception as error:
            logger.exception("fit %s", claim.job.id)
            self._fail(claim, error, retry=True)
        return True

    def _taken_back(self, claim: Claim) -> bool:
        """Whether the fit waits again without having been charged: only ``take_back`` does that."""
        found = known_jobs(self._platform.state.jobs, claim.job.tenant, [claim.job.id])
        return any(job.status == "queued" and job.attempt < claim.job.attempt for job in found)

    def _fail(self, claim: Claim, error: Exception, *, retry: bool) -> None:
        logger.warning("fit %s failed: %s", claim.job.id, error)
        try:
            self._platform.state.jobs.fail(claim, Problem.of(error), retry=retry)
        except (LeaseLost, ServiceUnavailable) as second:
            logger.warning("fit %s: its failure could not be recorded: %s", claim.job.id, second)


class _Fit:
    """One claimed fit: fetch, work, register, promote."""

    def __init__(
        self, platform: Platform, cohort: Cohort, claim: Claim, work: FitWork, num_threads: int, scratch: Path
    ):
        self._platform, self._cohort, self._claim, self._work = platform, cohort, claim, work
        self._job = claim.job
        self._request = FitRequest.of(claim.job)
        # The token is in the name, so that a worker that was given up but still runs cannot touch its successor's files.
        self._folder = scratch / f"{claim.job.id}-{claim.fence}"
        self._task = FitTask(
            name=str(self._request.identity),
            recording=self._folder / f"recording{self._request.recording_suffix}",
            capture_dir=self._folder / "capture",
            work_dir=self._folder / "steps",
            identity_dir=self._folder / "identity",
            report_dir=self._folder / "reports",
            options=self._request.options,
            num_threads=num_threads,
        )

    def run(self) -> dict[str, Any]:
        self._folder.mkdir(parents=True, mode=0o700)  # a person's face and voice
        try:
            return self._run()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self) -> dict[str, Any]:
        platform, request, job = self._platform, self._request, self._job
        self._task.work_dir.mkdir()
        steps = StepCheckpoints(
            platform.store, request.steps_key(job), self._task.work_dir, every_s=self._cohort.steps_every_s
        )
        log = MetricLog(platform.registry, job, request, every_s=METRICS_EVERY_S)

        def on_step(step: int, values: Mapping[str, float]) -> None:
            log.add(step, values)
            steps.save_if_due()

        capture_key = request.capture_key(job.tenant)
        lease = Lease(platform.state.jobs, self._claim, lease_s=self._cohort.lease_s)
        monitor = JobMonitor(
            lease,
            on_capture=lambda: put_archive(platform.store, capture_key, self._task.capture_dir),
            on_step=on_step,
        )
        with lease:
            monitor.stage("fetch", 0.0)
            log.begin()
            platform.store.get_file(request.recording_key(job.tenant), self._task.recording)
            get_archive(platform.store, capture_key, self._task.capture_dir)
            resumed = steps.restore()
            self._task.report_dir.mkdir()
            outcome = self._work(self._task, monitor)
            monitor.stage("register", 0.0)
            result = self._register(outcome)
            monitor.stage("register", 1.0)
        monitor.end()
        steps.forget()
        return {**result, "resumed": resumed, "seconds": {k: round(v, 2) for k, v in monitor.seconds.items()}}

    def _register(self, outcome: FitOutcome) -> dict[str, Any]:
        platform, request, job = self._platform, self._request, self._job
        tags = {
            CAPTURE_TAG: outcome.capture_sha256,
            "recording_sha256": request.recording_sha256,
            "recording_name": request.recording_name,
            "recipe": request.options.recipe,
            "size": str(request.options.size),
            "protocol": request.options.protocols[0],
            **({"consent": request.consent} if request.consent else {}),
        }
        ref = platform.registry.register_version(
            job.tenant,
            request.identity,
            outcome.identity_dir,
            metrics=outcome.metrics,
            tags=tags,
            artifacts=outcome.artifacts,
            fit_id=job.id,
        )
        result = {"ref": str(ref), "metrics": outcome.metrics, "promotion": None}
        if request.promote:
            result["promotion"] = self._promote(ref)
        return result

    def _promote(self, ref) -> dict[str, Any]:
        """A refusal is a result of the fit, not a failure of it: the version stays registered."""
        try:
            promotion = promote(
                self._platform.registry, self._platform.state, ref, thresholds=GateThresholds(**self._request.gate)
            )
        except (PromotionRefused, PromotionConflict, LockBusy) as error:
            return {"promoted": False, **Problem.of(error).as_dict()}
        return {"promoted": True, **promotion.as_dict()}
