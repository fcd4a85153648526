"""One claimed fit, from its recording to a registered version."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.archives import get_archive, put_archive
from cluster.control.champions import Champions
from cluster.control.fit_requests import FitRequest
from cluster.control.gate import Promotions
from cluster.control.lineage import lineage_of_code
from cluster.control.promotion.checks import CAPTURE_TAG, GateThresholds
from cluster.ids import ModelRef
from cluster.platform import Platform
from cluster.state.lease import Lease
from cluster.state.problems import Problem
from cluster.state.records import Claim
from cluster.telemetry.traces import spans
from m2dao.errors import PromotionConflict, PromotionRefused
from train_jobs.background import Background
from train_jobs.members import BatchSpec
from train_jobs.monitor import CONTACT_SHEET, JobMonitor, MetricLog, Shown
from train_jobs.step_checkpoints import StepCheckpoints
from train_jobs.work import FitOutcome, FitTask, FitWork


class ClaimedFit:
    """One claimed fit: fetch, work, register, promote.

    Args:
        platform: the services.
        batch: how long a lease lasts, and how often step checkpoints are copied.
        claim: the fit's job.
        work: what a fit is.
        num_threads: for the work to use.
        scratch: where the fit's own folder is made, and removed at the end.
    """

    def __init__(
        self, platform: Platform, batch: BatchSpec, claim: Claim, work: FitWork, num_threads: int, scratch: Path
    ):
        self._platform, self._batch, self._claim, self._work = platform, batch, claim, work
        self._job = claim.job
        self._request = FitRequest.of(claim.job)
        # The token is in the name: a worker that was given up but still runs cannot touch its successor's files.
        self._folder = scratch / f"{claim.job.id}-{claim.fence}"
        self._task = FitTask(
            name=str(self._request.identity),
            recording=self._folder / f"recording{self._request.recording_suffix}",
            capture_dir=self._folder / "prepared" / "capture",
            work_dir=self._folder / "steps",
            identity_dir=self._folder / "identity",
            report_dir=self._folder / "reports",
            options=self._request.options,
            num_threads=num_threads,
            allow_uncontained=platform.settings.allow_uncontained_decoders,
            backend=platform.settings.fit.chosen_backend,
        )

    def run(self) -> dict[str, Any]:
        """Do the fit; returns the result of its job."""
        self._folder.mkdir(parents=True, mode=0o700)  # a person's face and voice
        try:
            return self._run()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self) -> dict[str, Any]:
        # A thread each: a registry that hangs must not hold up the copies of steps, nor a store that hangs the curve.
        with (
            Background(f"copies of {self._job.id}") as copies,
            Background(f"metrics of {self._job.id}") as metrics,
            Background(f"pictures of {self._job.id}") as pictures,
        ):
            return self._work_with(copies, metrics, Shown(self._platform, self._claim, pictures))

    def _work_with(self, copies: Background, metrics: Background, shown: Shown) -> dict[str, Any]:
        platform, request, job = self._platform, self._request, self._job
        self._task.work_dir.mkdir()
        self._task.capture_dir.parent.mkdir()
        steps = StepCheckpoints(
            platform.store,
            request.steps_prefix(job),
            self._claim,
            self._task.work_dir,
            copies,
            every_s=self._batch.steps_every_s,
        )
        log = MetricLog(platform, job, request, metrics)

        def on_step(step: int, values: Mapping[str, float]) -> None:
            log.add(step, values)
            shown.add(step, values, self._task.work_dir)
            steps.save_if_due()

        capture_key = request.capture_key(job.tenant)

        def on_capture() -> None:
            shown.picture(self._task.capture_dir / CONTACT_SHEET)
            put_archive(platform.store, capture_key, self._task.capture_dir)

        lease = Lease(platform.state.jobs, self._claim, lease_s=self._batch.lease_s)
        monitor = JobMonitor(
            lease,
            on_capture=on_capture,
            on_step=on_step,
        )
        try:
            with lease:
                monitor.stage("fetch", 0.0)
                log.begin()
                platform.store.get_file(request.recording_key(job.tenant), self._task.recording)
                if get_archive(platform.store, capture_key, self._task.capture_dir):
                    shown.picture(self._task.capture_dir / CONTACT_SHEET)
                resumed = steps.restore()
                self._task.report_dir.mkdir()
                outcome = self._work(self._task, monitor)
                monitor.stage("register", 0.0)
                result = self._register(outcome)
                monitor.stage("register", 1.0)
        finally:
            monitor.end()
        steps.forget()
        return {**result, "resumed": resumed, "seconds": {k: round(v, 2) for k, v in monitor.seconds.items()}}

    def _register(self, outcome: FitOutcome) -> dict[str, Any]:
        platform, request, job = self._platform, self._request, self._job
        tags = {CAPTURE_TAG: outcome.capture_sha256, **request.lineage(), **lineage_of_code()}
        ref = platform.registry.register_version(
            job.tenant,
            request.identity,
            outcome.identity_dir,
            metrics=outcome.metrics,
            tags=tags,
            artifacts=outcome.artifacts,
            claim=self._claim,
        )
        result: dict[str, Any] = {"ref": str(ref), "metrics": outcome.metrics, "promotion": None}
        if request.promote:
            with spans.span("promote"):
                result["promotion"] = self._promote(ref)
        return result

    def _promote(self, ref: ModelRef) -> dict[str, Any]:
        """Promote once in the life of the fit: a retry must not undo what an operator has decided since.

        A refusal is a result of the fit, not a failure of it: the version stays registered.
        """
        champions, tenant, request = self._platform.state.champions, ref.tenant, str(self._job.id)
        before = champions.answer(tenant, request)
        if before is not None:
            return {"promoted": before["outcome"] == "moved", "detail": before.get("reason", "promoted before")}
        promotions = Promotions(self._platform.state.versions, Champions(self._platform.state))
        try:
            promotion = promotions.promote(ref, thresholds=GateThresholds(**self._request.gate), request=request)
        except (PromotionRefused, PromotionConflict) as error:
            champions.refuse(tenant, request, str(error))
            return {"promoted": False, **Problem.of(error).as_dict()}
        return {"promoted": True, **promotion.as_dict()}
