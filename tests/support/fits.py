"""Fit jobs for tests: plans as recordings, jobs as ``m2dao-train fit`` makes them, local workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.control.fit_requests import FitOptions, FitRequest
from cluster.control.fits import Recording
from cluster.ids import FitId, IdentityName, TenantId
from cluster.platform import Platform
from cluster.state.records import JobRecord
from m2dao.files import file_sha256
from tests.support.small_work import read_diary, small_fit
from train_jobs.members import BatchSpec
from train_jobs.work import FitWork
from train_jobs.worker import BatchWorker


class Fits:
    """Fits of one tenant in one test."""

    def __init__(self, platform: Platform, tenant: TenantId, folder: Path):
        self.platform, self.tenant, self.folder = platform, tenant, folder
        self.batch = str(FitId.new())
        self.diary = folder / "diary"

    def recording(self, name: str, **plan: Any) -> Recording:
        """A "recording" that tells the small work function what to do; see ``small_work``."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({"steps": 4, "diary": str(self.diary), "of": name, **plan}))
        return Recording(identity=IdentityName(name), path=path)

    def queue(self, name: str, *, max_attempts: int = 3, request: dict[str, Any] | None = None, **plan: Any) -> FitId:
        """Upload a recording and queue its fit."""
        recording = self.recording(name, **plan)
        wanted = FitRequest(
            batch=self.batch,
            identity=recording.identity,
            recording_sha256=file_sha256(recording.path),
            recording_name=recording.path.name,
            options=FitOptions(protocols=("paper",)),
            **(request or {}),
        )
        self.platform.store.put_file(wanted.recording_key(self.tenant), recording.path)
        job, _ = self.platform.state.jobs.create(self.tenant, "fit", wanted.as_dict(), max_attempts=max_attempts)
        return job.fit_id

    def spec(self, *fit_ids: FitId, lease_s: float = 30.0) -> BatchSpec:
        """The batch of these fits."""
        return BatchSpec(name=self.batch, tenant=self.tenant, fit_ids=fit_ids, lease_s=lease_s, steps_every_s=0.0)

    def worker(
        self,
        *fit_ids: FitId,
        rank: int = 0,
        generation: str = "g0",
        work: FitWork = small_fit,
        lease_s: float = 30.0,
        **more: Any,
    ) -> BatchWorker:
        spec = self.spec(*fit_ids, lease_s=lease_s)
        scratch = self.folder / "scratch"
        return BatchWorker(self.platform, spec, work, rank=rank, generation=generation, scratch=scratch, **more)

    def job(self, fit_id: FitId) -> JobRecord:
        return self.platform.state.jobs.get(self.tenant, fit_id)

    def events(self, name: str) -> list[str]:
        """What the work function did for one identity, in order."""
        return [event for who, event in read_diary(self.diary) if who == name]


def dying_at(step: int, *, times: int = 1) -> Callable:
    """The small work in a worker that dies at a step: nothing after it happens, no error is recorded."""
    left = [times]

    def work(task, monitor):
        class Dying:
            stage, capture_ready = monitor.stage, monitor.capture_ready

            @staticmethod
            def step(number, values):
                monitor.step(number, values)
                if number == step and left[0] > 0:
                    left[0] -= 1
                    raise WorkerDied

        return small_fit(task, Dying())

    return work


class WorkerDied(BaseException):
    """Stands for SIGKILL where the worker is in the test's own process: no handler may catch it."""
