"""Sees to it that every fit that waits is started."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from cluster.compute.jobs import RayJobs
from cluster.control.fit_controller import FitController
from cluster.control.fit_requests import ENGINE_WORK
from cluster.platform import Platform
from cluster.state.lease import Lease

LOOK_S = 0.3  # how late a fit that was queued is started, where no other is open
BUSY_LOOK_S = 1.0  # each look asks Ray for the jobs of all open fits


class FitsChore:
    """Starts fits on the Ray cluster of the settings.

    Args:
        platform: the services.
        work: what a fit is, as ``module:attribute``.
        job_flags: more flags for ``train_jobs.job``.
    """

    name = "fits"

    def __init__(self, platform: Platform, *, work: str = ENGINE_WORK, job_flags: Sequence[str] = ()):
        self._platform, self._work, self._job_flags = platform, work, job_flags

    @cached_property
    def _controller(self) -> FitController:
        cluster = RayJobs(self._platform.settings)
        return FitController(self._platform.state.jobs, cluster, work=self._work, job_flags=self._job_flags)

    def do(self, lease: Lease) -> float:
        if not self._platform.state.jobs.open("fit"):  # until then, nobody pays for Ray's client
            return LOOK_S
        self._controller.start(lease.check)
        return BUSY_LOOK_S
