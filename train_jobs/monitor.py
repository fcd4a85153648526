"""What a running fit tells the platform: how far it is, and the curve of its metrics."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.control.fit_requests import STAGES, FitRequest
from cluster.platform import Platform
from cluster.state.lease import Lease
from cluster.state.records import Claim, JobRecord
from cluster.telemetry.traces import spans
from m2dao.errors import LeaseLost, ServiceUnavailable
from train_jobs.background import Background

logger = logging.getLogger(__name__)

METRICS_EVERY_S = 2.0
PICTURES_EVERY_S = 15.0
CONTACT_SHEET = "contact_sheet.jpg"  # of the capture
STRIP = "strip.jpg"  # of the fit: the recording above, the render below, a column each time


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
                ended_s = time.time()
                spans.record(self._stage, ended_s - (now - self._began), ended_s)
            self._stage, self._began = name, now


class MetricLog:
    """Metrics over steps in the model registry, sent beside the fit and not too often.

    The curve of a fit is worth having, but no fit ends or waits because the registry was away while it ran.
    """

    def __init__(
        self,
        platform: Platform,
        job: JobRecord,
        request: FitRequest,
        background: Background,
        *,
        every_s: float = METRICS_EVERY_S,
    ):
        self._platform, self._job, self._request, self._background = platform, job, request, background
        self._every_s = every_s
        self._sent_at = -every_s

    def begin(self) -> None:
        """Open the run and note what was asked for; a retried fit goes on in the run it began."""
        options = self._request.options.as_dict()
        self._background.put(lambda: self._send(0, {}, {name: str(value) for name, value in options.items()}))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Send the metrics of a step soon, unless some were sent just now."""
        now = time.monotonic()
        if values and now - self._sent_at >= self._every_s:
            self._sent_at, known = now, dict(values)
            self._background.put(lambda: self._send(step, known, None))

    def _send(self, step: int, values: Mapping[str, float], params: Mapping[str, str] | None) -> None:
        job, runs = self._job, self._platform.registry.runs
        try:
            runs.log(job.tenant, self._request.identity, job.fit_id, step=step, metrics=values, params=params)
        except ServiceUnavailable as error:
            logger.warning("metrics of %s: %s", job.id, error)


class Shown:
    """Sends figures and pictures of a claimed fit, beside it and not too often.

    A service that is away costs what should have gone there, not the fit.

    Args:
        platform: the services.
        claim: the fit's job.
        background: sends.
        every_s: seconds between figures, and between pictures.
    """

    def __init__(
        self,
        platform: Platform,
        claim: Claim,
        background: Background,
        *,
        every_s: tuple[float, float] = (METRICS_EVERY_S, PICTURES_EVERY_S),
    ):
        self._platform, self._claim, self._background = platform, claim, background
        self._request = FitRequest.of(claim.job)
        self._every_s = every_s
        self._told_at, self._shown_at = (time.monotonic() - seconds for seconds in every_s)
        self._figures: dict[str, float] = {}
        self._pictures: dict[str, float] = {}  # name -> Unix time of its last state

    def add(self, step: int, values: Mapping[str, float], work_dir: Path) -> None:
        """Show the figures of a step soon, and the strip in the fit's folder, unless that was just done."""
        now = time.monotonic()
        if values and now - self._told_at >= self._every_s[0]:
            self._told_at = now
            self._figures = {"step": float(step), **{name.removeprefix("fit."): v for name, v in values.items()}}
            self._background.put(self._tell)
        if now - self._shown_at >= self._every_s[1]:
            self._shown_at = now
            self.picture(work_dir / STRIP)

    def picture(self, path: Path) -> None:
        """Show a picture soon; nothing happens when there is none yet."""
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            self._background.put(lambda: self._send(path.name, data))

    def _send(self, name: str, data: bytes) -> None:
        key = self._request.picture_key(self._claim.job, name)
        with contextlib.suppress(ServiceUnavailable):
            self._platform.store.put_bytes(key, data, content_type="image/jpeg")
            self._pictures[name] = time.time()
            self._tell()

    def _tell(self) -> None:
        told = {"metrics": self._figures, "pictures": dict(self._pictures)}
        with contextlib.suppress(LeaseLost, ServiceUnavailable):  # the fit itself notices that it is not ours
            self._platform.state.figures.note(self._claim, told)
