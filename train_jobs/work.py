"""Takes one identity from a recording to a judged checkpoint, on whatever machine it runs.

The orchestration around it (leases, storage, registry) knows a work function only by ``FitWork``; ``fit_recording``
is the one that calls the engine. A work function may be killed at any moment and called again, perhaps on another
machine: everything it wants to find again lies in the folders of its ``FitTask``.
"""

from __future__ import annotations

import importlib
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from cluster.control.fit_requests import FitOptions
from cluster.control.promotion.checks import PROBE
from m2dao.errors import ConfigError
from m2dao.formats import CAPTURE
from m2dao.tts.speech import Voice
from train_jobs.recordings import prepare_contained

if TYPE_CHECKING:  # the engine is slow to import; only a worker pays
    from m2dao.training.progress import FitProgress


# Full of m, b and p, said by nobody: a synthetic voice, the same sound on every machine.
_PROBE_SENTENCE = "Please, Bob, put my big blue map beside the piano, and keep it open until Mama comes home."
_PROBE_VOICE = Voice(pace=0.9)


@dataclass(frozen=True, kw_only=True)
class FitTask:
    """The folders and options of one fit.

    ``work_dir`` holds step checkpoints: what was in it when the last worker died is in it again. ``capture_dir`` may
    be filled already, from an earlier attempt or an earlier fit of the same recording. Its parent holds nothing else.
    ``allow_uncontained`` is the setting ``M2DAO_ALLOW_UNCONTAINED_DECODERS``. ``backend`` is by what it renders.
    """

    name: str
    recording: Path
    capture_dir: Path
    work_dir: Path
    identity_dir: Path
    report_dir: Path
    options: FitOptions
    num_threads: int = 1
    allow_uncontained: bool = False
    backend: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class FitOutcome:
    """What a finished fit leaves to the registry.

    Args:
        identity_dir: the identity checkpoint.
        capture_sha256: content hash of the capture it was fitted and judged on.
        metrics: numbers of the first protocol under their plain names, of further ones as ``protocol.name``.
        artifacts: name -> file, to be kept beside the version (contact sheet, plots).
    """

    identity_dir: Path
    capture_sha256: str
    metrics: dict[str, float]
    artifacts: dict[str, Path]


class FitMonitor(Protocol):
    """What a work function tells the world. Every call may raise ``LeaseLost``: then it must stop."""

    def stage(self, name: str, fraction: float, detail: str = "") -> None:
        """Progress within a stage: ``prepare``, ``fit`` or ``evaluate``."""

    def capture_ready(self) -> None:
        """``capture_dir`` is complete."""

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics at a step; also the moment at which ``work_dir`` may be copied away."""


class FitWork(Protocol):
    """Fits one recording."""

    def __call__(self, task: FitTask, monitor: FitMonitor) -> FitOutcome: ...


def load_work(spec: str) -> FitWork:
    """The work function that ``module:attribute`` names; it crosses processes by name, never pickled.

    Raises:
        ConfigError: there is no such function.
    """
    module, colon, attribute = spec.partition(":")
    try:
        work = getattr(importlib.import_module(module), attribute) if colon else None
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"work function {spec!r}", "MODULE:FUNCTION that can be imported", str(error)) from error
    if not callable(work):
        raise ConfigError(f"work function {spec!r}", "MODULE:FUNCTION", "something that cannot be called")
    return cast(FitWork, work)


def fit_recording(task: FitTask, monitor: FitMonitor) -> FitOutcome:
    """Prepare, fit and evaluate with the engine.

    Raises:
        CaptureRejected, MediaError: the recording will not do.
        FitError: the fit cannot go on.
        LeaseLost: another worker has taken the fit over.
    """
    is_prepared = (task.capture_dir / CAPTURE.manifest).exists()
    monitor.stage("fit" if is_prepared else "prepare", 0.0)  # imports and models are part of it: they take seconds
    from m2dao.capture.dataset import Capture
    from m2dao.training.fit import fit

    options = task.options
    if not is_prepared:
        prepare_contained(
            task.recording,
            task.capture_dir,
            size=options.capture_size,
            num_threads=task.num_threads,
            allow_uncontained=task.allow_uncontained,
            on_progress=lambda stage, fraction: monitor.stage("prepare", fraction, stage),
        )
        monitor.capture_ready()
    capture_sha256 = Capture.open(task.capture_dir).content_sha256

    def on_progress(progress: FitProgress) -> None:
        values = {"loss": progress.loss, "psnr_db": progress.psnr_db}
        known = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        monitor.stage("fit", progress.progress, progress.describe())
        monitor.step(progress.step, {f"fit.{name}": value for name, value in known.items()})

    result = fit(
        task.capture_dir,
        task.identity_dir,
        recipe=options.recipe,
        size=options.size,
        minutes=options.minutes,
        steps=options.steps,
        seed=options.seed,
        work_dir=task.work_dir,
        on_progress=on_progress,
        num_threads=task.num_threads,
        backend=task.backend,
    )
    metrics = {f"fit.{name}": float(value) for name, value in result.as_dict().items() if _is_number(value)}
    metrics.update(_evaluate(task, monitor))
    metrics.update(_speak_probe(task, monitor))
    artifacts = {path.name: path for path in _reports(task)}
    return FitOutcome(
        identity_dir=task.identity_dir, capture_sha256=capture_sha256, metrics=metrics, artifacts=artifacts
    )


def _evaluate(task: FitTask, monitor: FitMonitor) -> dict[str, float]:
    from m2dao.evaluation.evaluate import evaluate

    metrics: dict[str, float] = {}
    protocols = task.options.protocols
    num_parts = len(protocols) + 1  # the probe sentence comes last
    for index, protocol in enumerate(protocols):

        def on_progress(share: float, done: int = index, name: str = protocol) -> None:
            monitor.stage("evaluate", (done + share) / num_parts, name)

        result = evaluate(
            task.identity_dir,
            task.capture_dir,
            protocol=protocol,
            max_frames=task.options.evaluate_frames,
            backend=task.backend,
            on_progress=on_progress,
        )
        prefix = "" if index == 0 else f"{protocol}."
        metrics.update({prefix + k: float(v) for k, v in result.as_dict().items() if _is_number(v)})
    return metrics


def _speak_probe(task: FitTask, monitor: FitMonitor) -> dict[str, float]:
    """How the lips keep to a sentence in another person's voice: what the gate sees of every version."""
    from m2dao.evaluation.evaluate import evaluate
    from m2dao.media.audio import write_wav
    from m2dao.tts import synthesise

    done = len(task.options.protocols)

    def on_progress(share: float) -> None:
        monitor.stage("evaluate", (done + share) / (done + 1), "probe sentence")

    with tempfile.TemporaryDirectory(prefix="m2dao-probe-") as folder:
        sentence = Path(folder) / "sentence.wav"
        write_wav(sentence, synthesise(_PROBE_SENTENCE, _PROBE_VOICE).waveform)
        result = evaluate(
            task.identity_dir,
            task.capture_dir,
            protocol="cross",
            audio=sentence,
            backend=task.backend,
            on_progress=on_progress,
        )
    found = {name: value for name, value in result.as_dict().items() if not name.startswith("recording_")}
    return {f"{PROBE}{name}": float(value) for name, value in found.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _reports(task: FitTask) -> list[Path]:
    """Pictures worth keeping beside the version; videos of the person stay out of the registry."""
    candidates = [task.capture_dir / name for name in ("contact_sheet.jpg", "plots.png", "quality.json")]
    return [path for path in candidates if path.is_file()]
