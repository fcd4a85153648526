"""Sees to it that every fit that waits is started."""

from __future__ import annotations

from functools import cached_property

from cluster.compute.jobs import RayJobs
from cluster.control.fit_controller import FitController
from cluster.platform import Platform
from cluster.state.lease import Lease

LOOK_S = 1.0  # how late a fit that was queued is started


class FitsChore:
    """Starts fits on the Ray cluster of the settings."""

    name = "fits"

    def __init__(self, platform: Platform):
        self._platform = platform

    @cached_property
    def _controller(self) -> FitController:
        return FitController(self._platform.state.jobs, RayJobs(self._platform.settings))

    def do(self, lease: Lease) -> float:
        if self._platform.state.jobs.open("fit"):  # until then, nobody pays for Ray's client
            self._controller.start(lease.check)
        return LOOK_S
