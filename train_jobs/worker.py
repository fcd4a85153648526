"""One worker of a batch: pull a fit, do it, register it, pull the next.

A worker is a plain object with its collaborators and knows nothing of Ray, so every rule below is tested without a
cluster.

1. A fit that has never been tried, or that was taken back uncounted, is *fresh*. Any worker takes any fresh fit of
   the batch.
2. A fit that used up an attempt and is queued again is a *suspect*: its worker died, or it failed in a way that may
   not be its fault. It runs again only when no fresh fit is waiting or running, and alone, on worker 0. So it keeps no
   fresh fit from its turn.
3. The job store counts the attempts of each fit, and fails a fit that has none left.
4. After a fit, a worker leaves its place to a tenant that waits for one and has fewer (``train_jobs/turns.py``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cluster.faults import times_to_put_off
from cluster.platform import Platform
from cluster.state.problems import Problem
from cluster.state.records import Claim, JobRecord
from cluster.state.tallies import FIT_MS
from cluster.telemetry.traces import spans
from cluster.telemetry.traces.export import flush_traces
from m2dao.errors import (
    FitError,
    InputError,
    LeaseLost,
    RenderBackendUnavailable,
    ServiceUnavailable,
    UnknownJob,
)
from train_jobs.fit import ClaimedFit
from train_jobs.members import BatchSpec, known_jobs, worker_name
from train_jobs.turns import gives_way
from train_jobs.work import FitWork

logger = logging.getLogger(__name__)

ABANDONED_S = 2 * 24 * 3600


def probe_of(backend: str) -> Callable[[], None]:
    """Something that renders a frame on the GPU, or raises RenderBackendUnavailable."""

    def probe() -> None:
        if backend != "gsplat":
            return
        from m2dao.identity.renderers import probe as render_frame
        from m2dao.render.cuda import require_cuda

        require_cuda()
        try:
            render_frame(backend)
        except Exception as error:  # whatever CUDA says
            raise RenderBackendUnavailable(f"backend {backend!r}", "to render a frame", str(error)) from error

    return probe


class BatchWorker:
    """Pulls fits of a batch until there are none left for it.

    Args:
        platform: the services.
        batch: what to pull from.
        rank: which worker this is; 0 also does the suspects.
        generation: tells the workers of one start apart from those of earlier ones.
        work: what a fit is.
        num_threads: for the work to use.
        scratch: folder for files of running fits; each fit cleans up after itself.
        probe: renders a frame; raises when this worker cannot render any more.
    """

    def __init__(
        self,
        platform: Platform,
        batch: BatchSpec,
        work: FitWork,
        *,
        rank: int = 0,
        generation: str = "0",
        num_threads: int = 1,
        scratch: Path | None = None,
        probe: Callable[[], object] = lambda: None,
    ):
        self._platform, self._batch, self._work = platform, batch, work
        self._rank, self._num_threads = rank, num_threads
        self._probe = probe
        self._name = worker_name(batch, generation, rank)
        self._scratch = scratch or Path(tempfile.gettempdir()) / f"m2dao-fits-{os.getuid()}"

    def clean(self) -> None:
        """Remove what killed workers left on this machine; call it before this one works.

        The files show a person, so those of other batches go too once they are certainly nobody's any more.
        """
        if not self._scratch.is_dir():
            return
        names = {str(fit_id) for fit_id in self._batch.fit_ids}
        jobs = known_jobs(self._platform.state.jobs, self._batch)
        alive = {f"{job.id}-{job.fence}" for job in jobs if job.status == "running"}
        for folder in self._scratch.iterdir():
            fit_id, _, _ = folder.name.rpartition("-")
            with contextlib.suppress(OSError):
                if (fit_id in names and folder.name not in alive) or time.time() - folder.stat().st_mtime > ABANDONED_S:
                    shutil.rmtree(folder, ignore_errors=True)

    def run(self) -> int:
        """Work until nothing is left for this worker; returns how many fits it took on.

        Raises:
            RenderBackendUnavailable: it cannot render any more. A broken GPU fails fast, so it would take all fits.
        """
        count = 0
        if self._gives_way(to_resting=False, has_begun=False):  # Ray gives a free place to anybody who waits
            logger.info("%s leaves its place to another tenant at once", self._name)
            return count
        while (claim := self._next()) is not None:
            count += 1
            may_go_on = self._do_traced(claim)
            flush_traces()  # Ray ends workers without notice
            if not may_go_on:
                logger.warning("%s has been given up by its supervisor and stops", self._name)
                break
            if self._gives_way(to_resting=True):
                logger.info("%s leaves its place to another tenant", self._name)
                break
        return count

    def _gives_way(self, **terms: bool) -> bool:
        with contextlib.suppress(ServiceUnavailable):
            return gives_way(self._platform.state.jobs, self._batch.tenant, **terms)
        return False

    # -- pulling ----------------------------------------------------------------------------------------------

    def _next(self) -> Claim | None:
        jobs = self._platform.state.jobs
        with self._platform.state.events.subscribe(jobs=(self._batch.tenant, "fit")) as changes:
            while True:
                jobs.requeue_expired("fit")
                records = known_jobs(jobs, self._batch)
                fresh = [job for job in records if job.status == "queued" and job.attempt == 0]
                for job in fresh:
                    if (claim := self._claim(job)) is not None:
                        return claim
                put_off = [job for job in fresh if job.retry_at_s]  # nobody can have them yet
                if self._rank != 0 and not put_off:
                    return None
                running = [job for job in records if job.status == "running"]
                suspects = [job for job in records if job.status == "queued" and job.attempt > 0]
                if self._rank == 0 and not running and not fresh:
                    if not suspects:
                        return None
                    if (claim := self._claim(suspects[0])) is not None:
                        return claim
                changes.get(timeout_s=1.0)  # or look again: messages can be missed

    def _claim(self, job: JobRecord) -> Claim | None:
        return self._platform.state.jobs.claim(
            "fit", worker=self._name, lease_s=self._batch.lease_s, tenant=job.tenant, job_id=job.id
        )

    # -- working ----------------------------------------------------------------------------------------------

    def _do_traced(self, claim: Claim) -> bool:
        job = claim.job
        with job.worked_on():
            claim.record_wait()
            with spans.span("attempt", kind="CONSUMER", attempt=job.attempt, worker=self._name) as attempt:
                return self._do(claim, attempt)

    def _do(self, claim: Claim, attempt: spans.Span) -> bool:
        """One fit from claim to result. Whatever goes wrong ends up in its job, not in this worker.

        Returns:
            whether this worker may go on: not when its fit was taken back, for then the worker is believed dead.
        """
        jobs = self._platform.state.jobs
        try:
            fit = ClaimedFit(self._platform, self._batch, claim, self._work, self._num_threads, self._scratch)
            result = fit.run()
            with spans.span("commit"):
                jobs.finish(claim, result)
        except LeaseLost as error:
            logger.warning("%s", error)
            attempt.fail(error)
            return not self._taken_back(claim)
        except (InputError, FitError) as error:  # doing it again would end the same way
            attempt.fail(error)
            self._fail(claim, error, lambda problem: jobs.fail(claim, problem))
        except Exception as error:
            logger.exception("fit %s", claim.job.id)
            attempt.fail(error)
            broken = self._broken()
            if most := times_to_put_off(broken or error):  # nothing says that the fit is at fault
                self._fail(claim, error, lambda problem: jobs.put_off(claim, problem, most=most))
            else:
                self._fail(claim, error, lambda problem: jobs.fail(claim, problem, retry=True))
            if broken is not None:
                raise broken from error
        else:
            for stage, seconds in result["seconds"].items():
                self._platform.state.tallies.add(FIT_MS, stage, num=round(1000 * seconds))
        return True

    def _broken(self) -> RenderBackendUnavailable | None:
        """Why this worker cannot render any more, if it cannot."""
        try:
            self._probe()
        except Exception as error:
            remedy = "mend the GPU of this node, or take it out of the cluster"
            return RenderBackendUnavailable(f"fit worker {self._name}", "to render a frame", str(error), remedy)
        return None

    def _taken_back(self, claim: Claim) -> bool:
        """Whether the fit waits again without having been charged: only ``take_back`` does that."""
        with contextlib.suppress(UnknownJob):
            job = self._platform.state.jobs.get(claim.job.tenant, claim.job.id)
            return job.status == "queued" and job.attempt < claim.job.attempt
        return False

    def _fail(self, claim: Claim, error: Exception, say: Callable[[Problem], JobRecord]) -> None:
        logger.warning("fit %s failed: %s", claim.job.id, error)
        try:
            say(Problem.of(error))
        except (LeaseLost, ServiceUnavailable) as second:
            logger.warning("fit %s: its failure could not be recorded: %s", claim.job.id, second)
