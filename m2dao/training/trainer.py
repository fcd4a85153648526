"""A fit: capture in, identity out.

A budget is steps or minutes. With a budget of steps a fit stopped anywhere and resumed ends in the same result as one
that ran through; with a budget of minutes, which counts everything from decoding to writing, the schedule follows the
clock and the result depends on the machine.
Shapes: T frames, D embedding.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from m2dao.capture.dataset import Capture
from m2dao.capture.frame_poses import with_poses
from m2dao.errors import CaptureRejected, ConfigError, FitDiverged
from m2dao.gaussians.density import DensityConfig, ScreenGradients, control_density
from m2dao.gaussians.params import GaussianParams
from m2dao.identity.checkpoint import StoredIdentity, save_identity
from m2dao.identity.manifest import IdentityManifest
from m2dao.identity.poses import find_shots, pose_differences, slow_differences, viewmat_from_difference
from m2dao.motion.talking_head import FrameDrive
from m2dao.render.api import default_backend
from m2dao.render.threads import get_num_threads, one_torch_thread, set_num_threads
from m2dao.timeline import train_test_split
from m2dao.training.build import build_talking_head, choose_reference_frames
from m2dao.training.frames import TrainingFrames, scaled_intrinsics
from m2dao.training.optimizer import NamedAdam
from m2dao.training.order import FrameOrder
from m2dao.training.progress import FitProgress, ProgressFiles
from m2dao.training.recipes import Recipe, get_recipe
from m2dao.training.resume import StepState, discard_step, load_step, prefixed, save_step, without_prefix
from m2dao.training.speech_fit import make_speech_driver
from m2dao.training.step import StepRunner
from m2dao.training.torso_sway import measure_torso_sway

_MIN_FRAMES = 100
_SAVE_EVERY_S = 20.0
_REPORT_EVERY_STEPS = 25
_NUM_STRIP_PICTURES = 6
_CLOSING = 0.35  # lids closed by this share make a frame worth repeating
_FINISH_SHARE = 0.01  # of a budget in minutes, kept for writing the identity


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a fit went; the JSON of `m2dao fit`."""

    steps: int
    seconds: float
    steps_per_s: float
    num_gaussians: int
    loss: float
    psnr_train_db: float
    speech_held_out_r: float
    recipe: str
    size: int
    frames_left_out: list[int]

    def as_dict(self) -> dict:
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class FitBudget:
    """When a fit ends: exactly one of the two is set."""

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self):
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError("fit budget", "either steps or minutes", f"steps={self.steps}, minutes={self.minutes}")
        if self.steps is not None and self.steps < 1:
            raise ConfigError("fit steps", "at least 1", str(self.steps))
        if self.minutes is not None and not 0 < self.minutes <= 10_000:
            raise ConfigError("fit minutes", "more than 0", str(self.minutes))

    def progress(self, step: int, elapsed_s: float) -> float:
        """0 at the start, 1 when the budget is used up."""
        if self.steps is not None:
            return step / self.steps
        return elapsed_s / (60 * self.minutes * (1 - _FINISH_SHARE))


def fit(
    capture_dir: Path,
    out_dir: Path,
    *,
    recipe: str | Recipe = "m2dao",
    size: int = 256,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    work_dir: Path | None = None,
    on_progress: Callable[[FitProgress], None] | None = None,
    num_threads: int | None = None,
    backend: str | None = None,
) -> FitResult:
    """Fit an identity to the training part of a capture.

    Args:
        capture_dir: from :func:`m2dao.capture.prepare.prepare`.
        out_dir: where the identity goes.
        recipe: name or recipe.
        size: pixels, for a recipe given by name.
        minutes, steps: the budget, one of them.
        seed: of everything random.
        work_dir: for step checkpoints, numbers and pictures; a fit stopped before resumes from there. ``<out_dir>.fit``
            if None.
        on_progress: called every few steps.
        num_threads: for decoding and kernels; all cores if None.
        backend: render backend; the best of this machine if None.

    Raises:
        CaptureCorrupt, CaptureRejected: the capture cannot be used.
        ConfigError: budget or recipe out of range.
        FitDiverged: the loss is no longer a number.
    """
    budget = FitBudget(steps=steps, minutes=minutes)
    chosen = get_recipe(recipe, size) if isinstance(recipe, str) else recipe
    out_dir = Path(out_dir)
    work_dir = Path(work_dir) if work_dir else out_dir.with_name(out_dir.name + ".fit")
    work_dir.mkdir(parents=True, exist_ok=True)
    set_num_threads(num_threads)
    told = on_progress or (lambda report: None)
    with one_torch_thread():
        run = _Fit(Path(capture_dir), chosen, budget, seed, work_dir, backend or default_backend(), told)
        return run.complete(out_dir)


class _Fit:
    """The state of one fit and the loop over its steps."""

    def __init__(
        self,
        capture_dir: Path,
        recipe: Recipe,
        budget: FitBudget,
        seed: int,
        work_dir: Path,
        backend: str,
        on_progress: Callable[[FitProgress], None],
    ):
        self._started = time.monotonic()
        self._elapsed_before, self._on_progress = 0.0, on_progress
        self.recipe, self.budget, self.seed, self.work_dir = recipe, budget, seed, work_dir
        self.capture = with_poses(Capture.open(capture_dir), recipe.poses)
        train, _ = train_test_split(self.capture.num_frames)
        if len(train) < _MIN_FRAMES:
            raise CaptureRejected(str(capture_dir), f"{_MIN_FRAMES} frames to train on", str(len(train)))
        self.train = train
        usable = np.flatnonzero(self.capture.valid[: len(train)])
        closing = usable[self.capture.blink[usable].max(axis=1) > _CLOSING]
        self.order = FrameOrder(usable, closing, recipe.blink_repeats, seed)
        self.frames = TrainingFrames(
            self.capture,
            recipe.size,
            train,
            soft_masks=recipe.soft_masks,
            num_threads=get_num_threads(),
            on_progress=lambda share: self._tell("decoding frames", share),
        )
        self.K = scaled_intrinsics(self.capture.K, self.capture.size, recipe.size)
        state = load_step(work_dir, self._key())
        torch.manual_seed(seed)
        self.speech, self.held_out_r = make_speech_driver(
            self.capture, recipe, len(train), seed=seed, on_progress=lambda share: self._tell("learning the voice", share)
        )
        self._tell("placing Gaussians")
        torch.manual_seed(seed)
        self.head = build_talking_head(self.capture, self.frames, recipe, len(train))
        self.files = ProgressFiles(work_dir)
        self.step = 0
        if state:
            self._restore(state)
        self.adam = NamedAdam(self.head, recipe.rates)
        self.gradients = {name: ScreenGradients(len(group)) for name, group in self.head.groups.items()}
        if state:
            self._restore_optimizer(state)
        self.runner = StepRunner(self.head, recipe, torch.from_numpy(self.K), backend=backend)
        self._prepare_drives()
        self._postures = self._measure_postures(start=state is None)

    def _tell(self, what: str, share: float | None = None) -> None:
        """Say what is done before the first step."""
        phase = what if share is None else f"{what} {share:.0%}"
        self._on_progress(FitProgress(0, 0.0, phase, math.nan, math.nan, self._elapsed()))

    def complete(self, out_dir: Path) -> FitResult:
        """Run to the end of the budget and write the identity."""
        first_step, loop_started, last_turn = self.step, time.monotonic(), None
        last_saved, recent_mse, loss = time.monotonic(), [], math.nan
        pictures_due = [(index + 1) / (_NUM_STRIP_PICTURES + 1) for index in range(_NUM_STRIP_PICTURES)]
        pictures_due = [due for due in pictures_due if due > self._progress()]
        while (progress := self._progress()) < 1:
            row = self.recipe.schedule.row_at(progress)
            turn = row.turn_at(self.step)
            if turn != last_turn:
                self.runner.new_turn()
                last_turn = turn
            self.adam.select(turn.trainables, progress)
            index = self.order.frame_of(self.step)
            target = self.frames.target(index, generate_torso=self.recipe.model.has_torso)
            gradients = self.gradients if row.densify else None
            result = self.runner.run(self.drive(index), target, moving=row.moving, gradients=gradients)
            if not (math.isfinite(result.loss) and self.adam.step()):
                self._leave_out(index, result.loss)
                continue
            loss = result.loss
            self.step += 1
            recent_mse = [*recent_mse[-199:], result.mse]
            if row.densify and self.step % self.recipe.densify_every == 0:
                self._control_density()
            if self.step % _REPORT_EVERY_STEPS == 0:
                report = FitProgress(self.step, progress, turn.name, loss, _psnr_db(recent_mse), self._elapsed())
                self.files.add_numbers(report)
                self._on_progress(report)
            if pictures_due and progress >= pictures_due[0]:
                pictures_due.pop(0)
                self.files.add_pictures(self.frames.rgb(index), _to_bytes(result.composite))
            if time.monotonic() - last_saved > _SAVE_EVERY_S:
                self._save()
                last_saved = time.monotonic()
        if self.step == 0:
            raise ConfigError(
                "fit minutes", "enough for more than the preparations", f"{self.budget.minutes:g}, over before the first step",
                "give it more minutes",
            )  # fmt: skip
        self._write_identity(out_dir)
        discard_step(self.work_dir)
        loop_s = max(1e-9, time.monotonic() - loop_started)
        return FitResult(
            steps=self.step,
            seconds=self._elapsed(),
            steps_per_s=(self.step - first_step) / loop_s,
            num_gaussians=sum(len(group) for group in self.head.groups.values()),
            loss=loss,
            psnr_train_db=_psnr_db(recent_mse),
            speech_held_out_r=self.held_out_r,
            recipe=self.recipe.name,
            size=self.recipe.size,
            frames_left_out=sorted(self.order.poisoned),
        )

    def drive(self, index: int) -> FrameDrive:
        """What drives a frame of the training part."""
        return FrameDrive(
            viewmat=self._viewmats[index],
            slow_viewmat=self._slow_viewmats[index],
            audio=self._embeddings[index],
            expression=self._expression[index],
            posture=None if self._postures is None else self._postures[index],
        )

    def _prepare_drives(self) -> None:
        reference = self.head.torso.reference_viewmat if self.head.torso is not None else self._reference()
        self.poses = pose_differences(self.capture.viewmats, reference.numpy())
        self.slow_poses = slow_differences(self.poses)
        self._viewmats = torch.from_numpy(np.asarray(self.capture.viewmats, np.float32))
        self._slow_viewmats = torch.stack([viewmat_from_difference(row, reference) for row in self.slow_poses])
        self._expression = torch.from_numpy(np.asarray(self.capture.expression, np.float32))
        with torch.no_grad():
            features = self.capture.feature(self.speech.config.features)
            self._embeddings = self.speech(self.speech.windows(features, self.capture.num_frames))
        self._reference_viewmat = reference

    def _measure_postures(self, *, start: bool) -> Tensor | None:
        """How the shoulders rest in each frame's shot [T, 4]; at the start of a fit the torso takes over the sway."""
        if self.head.torso is None:
            return None
        views = zip(self._viewmats, self._slow_viewmats, strict=True)
        features = torch.stack([self.head.torso.pose_features(*pair) for pair in views])[: len(self.train)]
        reference = choose_reference_frames(self.capture, len(self.train)).neutral
        shots = find_shots(self.poses[: len(self.train)])
        sway = measure_torso_sway(self.head, self.frames, reference, features.numpy(), shots, self.K)
        postures = torch.from_numpy(sway.postures).float()
        if start:
            self.head.torso.set_sway(torch.from_numpy(sway.weight).float(), postures[-1])
        return postures[torch.from_numpy(shots)]

    def _reference(self) -> Tensor:
        index = choose_reference_frames(self.capture, len(self.train)).neutral
        return torch.from_numpy(np.asarray(self.capture.viewmats[index], np.float32))

    def _leave_out(self, index: int, loss: float) -> None:
        """Go on without a frame whose loss or gradients are not numbers; nothing of it has reached the parameters."""
        self.adam.forget()
        if not self.order.poison(index):
            raise FitDiverged(
                f"fit of {self.recipe.name}", "finite losses and gradients",
                f"loss {loss} at step {self.step}, frame {index}, after as much at {len(self.order.poisoned) - 1} others",
            )  # fmt: skip
        said = f"frame {index} left out: its loss or gradients are not numbers"
        self._on_progress(FitProgress(self.step, self._progress(), said, math.nan, math.nan, self._elapsed()))

    def _control_density(self) -> None:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        for name, group in self.head.groups.items():
            config = DensityConfig(max_gaussians=self.recipe.max_gaussians[name])
            self.adam.apply_density(name, control_density(group, self.gradients[name], config, generator))
            self.gradients[name] = ScreenGradients(len(group))
        self.runner.new_turn()

    def _elapsed(self) -> float:
        return self._elapsed_before + time.monotonic() - self._started

    def _progress(self) -> float:
        return self.budget.progress(self.step, self._elapsed())

    def _key(self) -> str:
        """What makes two fits the same fit."""
        parts = {
            "capture": self.capture.content_sha256,
            "recipe": asdict(self.recipe),
            "budget": asdict(self.budget),
            "seed": self.seed,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _save(self) -> None:
        tensors = prefixed("head.", self.head.state_dict()) | prefixed("adam.", self.adam.state_tensors())
        tensors |= prefixed("speech.", self.speech.state_dict())
        for name, value in self.gradients.items():
            tensors |= {f"gradients.{name}.total": value.total, f"gradients.{name}.count": value.count}
        tensors["poisoned"] = torch.tensor(sorted(self.order.poisoned), dtype=torch.int64)
        save_step(self.work_dir, StepState(self.step, self._elapsed(), self._key(), tensors))

    def _restore(self, state: StepState) -> None:
        """Take over parameters; groups may have another size than their seeds."""
        self.step, self._elapsed_before = state.step, state.elapsed_s
        self.order.poisoned = set(state.tensors["poisoned"].tolist())
        self.speech.load_state_dict(without_prefix("speech.", state.tensors))
        for name in list(self.head.groups):
            stored = without_prefix(f"head.groups.{name}.", state.tensors)
            tensors = without_prefix("raw.", stored) | {"tags": stored["tags"]}
            self.head.groups[name] = GaussianParams.from_tensors(tensors, source=str(self.work_dir))
        self.head.load_state_dict(without_prefix("head.", state.tensors))

    def _restore_optimizer(self, state: StepState) -> None:
        self.adam.load_state_tensors(without_prefix("adam.", state.tensors))
        for name, value in self.gradients.items():
            value.total = state.tensors[f"gradients.{name}.total"]
            value.count = state.tensors[f"gradients.{name}.count"]

    def _write_identity(self, out_dir: Path) -> None:
        num_train = len(self.train)
        manifest = IdentityManifest(
            recipe=self.recipe.name,
            size=self.recipe.size,
            K=[[float(value) for value in row] for row in self.K],
            model={},
            speech={},
            num_gaussians={},
            fit={"steps": self.step, "seconds": round(self._elapsed(), 1), "seed": self.seed, "num_train": num_train},
            capture_sha256=self.capture.content_sha256,
            poses=self.recipe.poses,
            soft_masks=self.recipe.soft_masks,
        )
        signals = {
            "poses": torch.from_numpy(self.poses[:num_train]),
            "slow_poses": torch.from_numpy(self.slow_poses[:num_train]),
            "expression": self._expression[:num_train],
            "reference_viewmat": self._reference_viewmat,
        }
        save_identity(out_dir, StoredIdentity(manifest, self.head, self.speech, signals, self.frames.latest_plate))


def _psnr_db(mses: list[float]) -> float:
    return -10 * math.log10(max(1e-10, sum(mses) / len(mses))) if mses else math.nan


def _to_bytes(picture: Tensor) -> np.ndarray:
    return (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()
