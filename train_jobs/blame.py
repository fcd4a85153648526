"""What the platform learns when a worker dies: which fit it was at."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ray.train import UserCallback

from cluster.platform import Platform
from cluster.settings import Settings
from cluster.state.jobs import Jobs
from cluster.state.problems import Problem
from cluster.state.records import Claim
from m2dao.errors import LeaseLost, ServiceUnavailable
from train_jobs.members import BatchSpec, running_jobs

if TYPE_CHECKING:
    from ray.train.v2._internal.execution.context import TrainRunContext

logger = logging.getLogger(__name__)


class BlameCallback(UserCallback):
    """Charges the death of a worker to the fit that it was working on, and to no other.

    Args:
        batch: whose worker it is.
        rank: which one.
    """

    def __init__(self, batch: BatchSpec, rank: int):
        self._batch, self._rank = batch, rank

    def after_exception(self, run_context: TrainRunContext, worker_exceptions: dict[int, Exception]) -> None:
        """Called by Ray Train beside its controller when the worker has died."""
        jobs = Platform(Settings.from_env()).state.jobs
        try:
            for rank, claim in running_jobs(jobs, self._batch).values():
                if rank == self._rank:
                    with claim.job.worked_on():
                        self._blame(jobs, claim)
        except ServiceUnavailable as error:  # raising here would end the whole batch; the lease will run out instead
            logger.warning("cannot tell whose worker died: %s", error)

    def _blame(self, jobs: Jobs, claim: Claim) -> None:
        job = claim.job
        at = job.stage or "the beginning"
        detail = f"the worker died while it was at: {at} (attempt {job.attempt} of {job.max_attempts})"
        logger.warning("fit %s: %s", job.id, detail, extra={"identity": job.request.get("identity")})
        try:
            title = "The process that ran the fit ended without a word"
            jobs.fail(claim, Problem(code="worker-died", title=title, detail=detail), retry=True)
        except LeaseLost:
            logger.info("fit %s changed hands before its worker's death was known", job.id)
