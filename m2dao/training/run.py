"""A fit under way: its state and the loop over its steps.

Shapes: T frames.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from m2dao.capture.cameras.frame_poses import with_poses
from m2dao.capture.dataset import Capture
from m2dao.errors import CaptureRejected, ConfigError, FitDiverged
from m2dao.figures import rounded
from m2dao.formats import ENGINE_VERSION
from m2dao.gaussians.density import DensityConfig, ScreenGradients, control_density
from m2dao.gaussians.params import GaussianParams
from m2dao.identity.checkpoint import StoredIdentity, load_identity, save_identity
from m2dao.identity.manifest import IdentityManifest
from m2dao.kernels.threads import get_num_threads
from m2dao.motion.speech import SpeechDriver
from m2dao.render.api import device_of
from m2dao.stages import timed
from m2dao.timeline import train_test_split
from m2dao.training.budget import FitBudget, ProgressBegin
from m2dao.training.build import build_talking_head, choose_reference_frames
from m2dao.training.frames.ahead import TargetsAhead
from m2dao.training.frames.choose import choose_frames
from m2dao.training.frames.drives import TrainingDrives
from m2dao.training.frames.order import FrameOrder
from m2dao.training.frames.targets import TrainingFrames, scaled_intrinsics
from m2dao.training.optimizer import NamedAdam
from m2dao.training.progress import FitProgress, ProgressFiles
from m2dao.training.recipes import Recipe
from m2dao.training.resume import StepState, discard_step, load_step, prefixed, save_step, without_prefix
from m2dao.training.schedule import PhaseRow
from m2dao.training.speech.fit_driver import SpeechFit, make_speech_driver, speech_config
from m2dao.training.step import StepResult, StepRunner
from m2dao.training.storage_loss import storage_loss_db
from m2dao.training.universal import UniversalMotion, install_motion

_MIN_FRAMES = 100
_SAVE_EVERY_S = 20.0
_REPORT_EVERY_STEPS = 25
_NUM_STRIP_PICTURES = 6
_CLOSING = 0.35  # lids closed by this share make a frame worth repeating


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a fit went; the JSON of `m2dao fit`.

    Attributes:
        steps, seconds, steps_per_s: taken.
        num_gaussians: of all groups.
        loss, psnr_train_db: of the last frames trained on.
        speech_held_out_r: correlation of predicted and recorded lips in the part that the voice was not learned from.
        stored_loss_db: PSNR that half precision costs on the training part.
        frames_left_out: numbers of frames whose losses were no numbers.
    """

    steps: int
    seconds: float
    steps_per_s: float
    num_gaussians: int
    loss: float
    psnr_train_db: float
    speech_held_out_r: float
    stored_loss_db: float
    recipe: str
    size: int
    frames_left_out: list[int]

    def as_dict(self) -> dict:
        return rounded(asdict(self))


class FitRun:
    """One fit under way.

    Args:
        capture_dir, recipe, budget, seed: what is fitted to what.
        work_dir: step checkpoints, numbers and pictures; a run stopped before goes on from there.
        backend: render backend.
        on_progress: called every few steps.
        universal: motion to start from; None starts from rest.
    """

    def __init__(
        self,
        capture_dir: Path,
        recipe: Recipe,
        budget: FitBudget,
        seed: int,
        work_dir: Path,
        backend: str,
        on_progress: Callable[[FitProgress], None],
        universal: UniversalMotion | None = None,
    ):
        self._started = time.monotonic()
        self._elapsed_before, self._on_progress = 0.0, on_progress
        self.recipe, self.budget, self.seed, self.work_dir, self.backend = recipe, budget, seed, work_dir, backend
        if universal and universal.model != recipe.model:
            odd = [
                f.name
                for f in fields(recipe.model)
                if getattr(recipe.model, f.name) != getattr(universal.model, f.name)
            ]
            raise ConfigError(
                f"universal motion for recipe {recipe.name}", "the same model", f"another {', '.join(odd)}"
            )
        self.capture = with_poses(Capture.open(capture_dir), recipe.poses)
        train, _ = train_test_split(self.capture.num_frames)
        if len(train) < _MIN_FRAMES:
            raise CaptureRejected(str(capture_dir), f"{_MIN_FRAMES} frames to train on", str(len(train)))
        self.train = train
        reference = choose_reference_frames(self.capture, len(train))
        wanted = choose_frames(
            self.capture, len(train), budget.num_frames, (reference.neutral, reference.widest, len(train) - 1)
        )
        self.usable = wanted[self.capture.valid[wanted]]
        closing = self.usable[self.capture.blink[self.usable].max(axis=1) > _CLOSING]
        self.order = FrameOrder(self.usable, closing, recipe.blink_repeats, seed)
        self.frames = TrainingFrames(
            self.capture,
            recipe.size,
            wanted,
            soft_masks=recipe.soft_masks,
            num_threads=get_num_threads(),
            on_progress=lambda share: self._tell("decoding frames", share),
        )
        self.device = device_of(backend)
        ahead = self.device.type == "cuda" and get_num_threads() > 1
        self.targets = TargetsAhead(self.frames, generate_torso=recipe.model.has_torso, device=self.device, ahead=ahead)
        self.K = scaled_intrinsics(self.capture.K, self.capture.size, recipe.size)
        self._universal_sha256 = universal.sha256 if universal else None
        state = load_step(work_dir, self._key())
        self.voice = self._make_speech(universal, state)
        self._tell("placing Gaussians")
        torch.manual_seed(seed)
        self.head = build_talking_head(self.capture, self.frames, recipe, reference, universal=universal)
        self.files = ProgressFiles(work_dir)
        self.step, self._loss, self._recent_mse = 0, math.nan, []
        self._block, self._last_saved = None, time.monotonic()  # the block of steps under way
        if state:
            self._restore(state)
        self.drives = TrainingDrives(
            self.capture, self.head, self.voice.driver, len(train), reference.neutral, self.device
        )
        self.drives.measure_torso(self.head, self.frames, self.K, start=state is None)
        self.head.to(self.device)
        self.adam = NamedAdam(self.head, recipe.rates)
        self.gradients = {name: ScreenGradients(len(group), self.device) for name, group in self.head.groups.items()}
        if state:
            self._restore_optimizer(state)
        self.runner = StepRunner(self.head, recipe, torch.from_numpy(self.K), backend=backend)
        self._begin = ProgressBegin(state.progress if state else 0.0, self._elapsed())

    def _tell(self, what: str, share: float | None = None) -> None:
        """Say what is done before the first step."""
        phase = what if share is None else f"{what} {share:.0%}"
        self._on_progress(FitProgress(0, 0.0, phase, math.nan, math.nan, self._elapsed()))

    def _make_speech(self, universal: UniversalMotion | None, state: StepState | None) -> SpeechFit:
        """The voice, not learned again where a fit goes on."""
        start = universal.speech if universal else None
        if state:
            speech = SpeechDriver(speech_config(self.capture, self.recipe, start))
            speech.load_state_dict(without_prefix("speech.", state.tensors))
            return SpeechFit(speech.eval(), float(state.tensors["speech_held_out_r"]))
        return make_speech_driver(
            self.capture,
            self.recipe,
            len(self.train),
            seed=self.seed,
            start=start,
            on_progress=lambda share: self._tell("learning the voice", share),
        )

    def complete(self, out_dir: Path) -> FitResult:
        """Run to the end of the budget and write the identity.

        Raises:
            ConfigError: the budget is over before the first step.
            FitDiverged: too many frames give losses that are not numbers.
        """
        first_step, loop_started = self.step, time.monotonic()
        self.advance()
        if self.step == 0:
            raise ConfigError(
                "fit minutes",
                "enough for more than the preparations",
                f"{self.budget.minutes:g}, over before the first step",
                "give it more minutes",
            )
        loop_s = max(1e-9, time.monotonic() - loop_started)
        identity = self._identity()
        save_identity(out_dir, identity)
        healthy = [index for index in self.usable if index not in self.order.poisoned]
        stored_loss_db = storage_loss_db(
            identity,
            load_identity(out_dir),
            self.drives,
            self.frames,
            healthy,
            torch.from_numpy(self.K),
            backend=self.backend,
        )
        discard_step(self.work_dir)
        return FitResult(
            steps=self.step,
            seconds=self._elapsed(),
            steps_per_s=(self.step - first_step) / loop_s,
            num_gaussians=sum(len(group) for group in self.head.groups.values()),
            loss=self._loss,
            psnr_train_db=self.recent_psnr_db,
            speech_held_out_r=self.voice.held_out_r,
            stored_loss_db=stored_loss_db,
            recipe=self.recipe.name,
            size=self.recipe.size,
            frames_left_out=sorted(self.order.poisoned),
        )

    @property
    def recent_psnr_db(self) -> float:
        """Of the last frames trained on."""
        return _psnr_db(self._recent_mse)

    def take_over(self, motion: dict[str, Tensor]) -> None:
        """Go on with other shared motion, see ``universal.install_motion``."""
        install_motion(self.head, motion)
        self.runner.new_turn()

    def advance(self, until_step: int | None = None) -> None:
        """Take steps until the budget ends, or until a step before that.

        Raises:
            FitDiverged: too many frames give losses that are not numbers.
        """
        pictures_due = [(index + 1) / (_NUM_STRIP_PICTURES + 1) for index in range(_NUM_STRIP_PICTURES)]
        pictures_due = [due for due in pictures_due if due > self._progress()]
        while (progress := self._progress()) < 1 and self.step != until_step:
            row = self.recipe.schedule.row_at(progress)
            turn, block = row.turn_at(self.step), (row, self.step // row.block_steps)
            if block != self._block:
                self.runner.new_turn()
                self._block = block
                # Between blocks nothing is under way, so that a fit resumed here goes on as if it had not been stopped.
                if time.monotonic() - self._last_saved > _SAVE_EVERY_S:
                    self.save()
                    self._last_saved = time.monotonic()
            self.adam.select(turn.trainables, progress)
            indices = [
                self.order.frame_of(self.step + ahead) for ahead in range(self._num_at_once(row, until_step) + 1)
            ]
            frames = [(self.drives.of(pair[0]), partial(self.targets.take, *pair)) for pair in pairwise(indices)]
            results = self.runner.run(frames, moving=row.moving, screen=row.densify)
            for index, result in zip(indices[:-1], results, strict=True):
                if not self._take(result, row):
                    self._leave_out(index, result.loss)
                    break
                if self.step % _REPORT_EVERY_STEPS == 0:
                    report = FitProgress(
                        self.step, progress, turn.name, self._loss, self.recent_psnr_db, self._elapsed()
                    )
                    self.files.add_numbers(report)
                    self._on_progress(report)
                if pictures_due and progress >= pictures_due[0]:
                    pictures_due.pop(0)
                    self.files.add_pictures(self.frames.rgb(index), _to_bytes(result.composite))

    def _num_at_once(self, row: PhaseRow, until_step: int | None) -> int:
        """How many of the next steps look at their frames by the same parameters: none beyond what changes what is trained."""
        ends = [row.block_steps - self.step % row.block_steps, self.runner.num_at_once]
        if row.densify:
            ends.append(self.recipe.densify_every - self.step % self.recipe.densify_every)
        ends += [end - self.step for end in (until_step, self.budget.steps) if end is not None]
        return max(1, min(ends))

    def _take(self, result: StepResult, row: PhaseRow) -> bool:
        """Step by the gradients of a frame; False, and no step, if they are not numbers."""
        if not math.isfinite(result.loss):
            return False
        self.runner.accept(result, moving=row.moving)
        with timed("optimiser"):
            if not self.adam.step():
                return False
        self._loss = result.loss
        self.step += 1
        self._recent_mse = [*self._recent_mse[-199:], result.mse]
        if row.densify:
            self.runner.collect(result, self.gradients)
            if self.step % self.recipe.densify_every == 0:
                self._control_density()
        return True

    def _leave_out(self, index: int, loss: float) -> None:
        """Go on without a frame whose loss or gradients are not numbers; nothing of it has reached the parameters."""
        self.adam.forget()
        self.runner.new_turn()
        if not self.order.poison(index):
            raise FitDiverged(
                f"fit of {self.recipe.name}",
                "finite losses and gradients",
                f"loss {loss} at step {self.step}, frame {index}, after as much at {len(self.order.poisoned) - 1} others",
            )
        said = f"frame {index} left out: its loss or gradients are not numbers"
        self._on_progress(FitProgress(self.step, self._progress(), said, math.nan, math.nan, self._elapsed()))

    def _control_density(self) -> None:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        for name, group in self.head.groups.items():
            config = DensityConfig(max_gaussians=self.recipe.max_gaussians[name])
            self.adam.apply_density(name, control_density(group, self.gradients[name], config, generator))
            self.gradients[name] = ScreenGradients(len(group), self.device)
        self.runner.new_turn()

    def _elapsed(self) -> float:
        return self._elapsed_before + time.monotonic() - self._started

    def _progress(self) -> float:
        return self.budget.progress(self.step, self._elapsed(), self._begin)

    def _key(self) -> str:
        """What makes two fits the same fit."""
        parts = {
            "engine": ENGINE_VERSION,
            "capture": self.capture.content_sha256,
            "recipe": asdict(self.recipe),
            "budget": asdict(self.budget),
            "seed": self.seed,
            "universal": self._universal_sha256,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def save(self) -> None:
        """Write a step checkpoint; only where :meth:`advance` has stopped or between its blocks."""
        tensors = prefixed("head.", self.head.state_dict()) | prefixed("adam.", self.adam.state_tensors())
        tensors |= prefixed("speech.", self.voice.driver.state_dict())
        for name, value in self.gradients.items():
            tensors |= {f"gradients.{name}.total": value.total, f"gradients.{name}.count": value.count}
        tensors["speech_held_out_r"] = torch.tensor(self.voice.held_out_r, dtype=torch.float64)
        tensors["poisoned"] = torch.tensor(sorted(self.order.poisoned), dtype=torch.int64)
        save_step(self.work_dir, StepState(self.step, self._elapsed(), self._progress(), self._key(), tensors))

    def _restore(self, state: StepState) -> None:
        """Take over parameters; groups may have another size than their seeds."""
        self.step, self._elapsed_before = state.step, state.elapsed_s
        self.order.poisoned = set(state.tensors["poisoned"].tolist())
        for name in list(self.head.groups):
            stored = without_prefix(f"head.groups.{name}.", state.tensors)
            tensors = without_prefix("raw.", stored) | {"tags": stored["tags"]}
            self.head.groups[name] = GaussianParams.from_tensors(tensors, source=str(self.work_dir))
        self.head.load_state_dict(without_prefix("head.", state.tensors))

    def _restore_optimizer(self, state: StepState) -> None:
        self.adam.load_state_tensors(without_prefix("adam.", state.tensors))
        for name, value in self.gradients.items():
            value.total = state.tensors[f"gradients.{name}.total"].to(self.device)
            value.count = state.tensors[f"gradients.{name}.count"].to(self.device)

    def _identity(self) -> StoredIdentity:
        """What the fit has made."""
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
            "poses": torch.from_numpy(self.drives.poses[:num_train]),
            "slow_poses": torch.from_numpy(self.drives.slow_poses[:num_train]),
            "expression": self.drives.expression[:num_train],
            "reference_viewmat": self.drives.reference_viewmat,
        }
        return StoredIdentity(manifest, self.head, self.voice.driver, signals, self.frames.latest_plate)


def _psnr_db(mses: list[float]) -> float:
    return -10 * math.log10(max(1e-10, sum(mses) / len(mses))) if mses else math.nan


def _to_bytes(picture: Tensor) -> np.ndarray:
    return (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()
