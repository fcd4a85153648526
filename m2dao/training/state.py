"""What a fit is: its configuration, what it looks at, and what changes with its steps.

Shapes: T frames, S pixels a side.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from m2dao.capture.dataset import Capture
from m2dao.formats import ENGINE_VERSION
from m2dao.gaussians.density import ScreenGradients
from m2dao.motion.talking_head import TalkingHead
from m2dao.training.budget import FitBudget, FitClock
from m2dao.training.frames.choose import FrameOrder
from m2dao.training.frames.conditions import TrainingConditions
from m2dao.training.frames.targets import TargetsAhead, TrainingFrames
from m2dao.training.optimizer import NamedAdam
from m2dao.training.progress import FitProgress, ProgressFiles
from m2dao.training.recipes import Recipe
from m2dao.training.schedule import Span
from m2dao.training.speech.fit_driver import SpeechFit
from m2dao.training.step import StepResult, StepRunner
from m2dao.training.universal import UniversalMotion

_MSES_KEPT = 200


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """What is fitted to what, for how long and where.

    Args:
        capture_dir: a capture.
        recipe: how.
        budget: when it ends.
        seed: of everything random.
        work_dir: step checkpoints, numbers and pictures; a fit stopped before goes on from there.
        backend: render backend.
        universal: motion to start from; None starts from rest.
    """

    capture_dir: Path
    recipe: Recipe
    budget: FitBudget
    seed: int = 0
    work_dir: Path
    backend: str
    universal: UniversalMotion | None = None

    def key(self, capture: Capture) -> str:
        """What makes two fits the same fit: only then does one go on from the other's checkpoint."""
        parts = {
            "engine": ENGINE_VERSION,
            "capture": capture.content_sha256,
            "recipe": asdict(self.recipe),
            "budget": asdict(self.budget),
            "seed": self.seed,
            "universal": self.universal.sha256 if self.universal else None,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class FitData:
    """What a fit looks at; nothing of it changes while steps are taken.

    Attributes:
        capture: with the poses of the recipe.
        num_train: frames of the training part.
        usable: indices of decoded frames that show a face.
        frames: decoded to the recipe's size.
        targets: what each should look like, on the device of the backend.
        voice: the audio encoders, learned before the first step.
        drives: what drives each frame.
        K: [3, 3] for S.
    """

    capture: Capture
    num_train: int
    usable: np.ndarray
    frames: TrainingFrames
    targets: TargetsAhead
    voice: SpeechFit
    conditions: TrainingConditions
    K: np.ndarray


@dataclass(kw_only=True)
class Fit:
    """A fit between two of its steps.

    Attributes:
        config, data: what is given.
        key: see :meth:`FitConfig.key`.
        clock: how long it has gone on.
        order: which frame each step looks at.
        head, adam, gradients, runner: what is trained, and what trains it.
        tell: called every few steps.
        files: numbers and pictures in the work folder.
        step: how many were taken.
        loss: of the last one.
        recent_mse: of the last frames trained on.
        block: span and number of the block of steps under way.
        last_saved_s: on the clock of ``time.monotonic``.
    """

    config: FitConfig
    data: FitData
    key: str
    clock: FitClock
    order: FrameOrder
    head: TalkingHead
    adam: NamedAdam
    gradients: dict[str, ScreenGradients]
    runner: StepRunner
    tell: Callable[[FitProgress], None]
    files: ProgressFiles
    step: int = 0
    loss: float = math.nan
    recent_mse: list[float] = field(default_factory=list)
    block: tuple[Span, int] | None = None
    last_saved_s: float

    @property
    def recipe(self) -> Recipe:
        return self.config.recipe

    @property
    def device(self) -> torch.device:
        return self.data.conditions.device

    @property
    def progress(self) -> float:
        """0 at the first step, 1 when the budget is used up."""
        return self.clock.progress(self.step)

    @property
    def recent_psnr_db(self) -> float:
        """Of the last frames trained on; NaN before the first step."""
        if not self.recent_mse:
            return math.nan
        return -10 * math.log10(max(1e-10, sum(self.recent_mse) / len(self.recent_mse)))

    def count(self, result: StepResult) -> None:
        """Note that a step was taken."""
        self.step += 1
        self.loss = result.loss
        self.recent_mse = [*self.recent_mse[1 - _MSES_KEPT :], result.mse]
