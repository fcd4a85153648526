"""Builds all that a fit needs before its first step, or takes up one that was stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from m2dao.capture.cameras.frame_poses import with_poses
from m2dao.capture.dataset import Capture
from m2dao.errors import CaptureRejected, ConfigError
from m2dao.gaussians.density import ScreenGradients
from m2dao.kernels.threads import get_num_threads
from m2dao.render.api import device_of
from m2dao.timeline import split_recording
from m2dao.training.budget import FitClock, ProgressBegin
from m2dao.training.build import build_talking_head
from m2dao.training.checkpoint import StepCheckpoint, load_checkpoint
from m2dao.training.frames.choose import FrameOrder, ReferenceFrames, choose_frames, choose_reference_frames
from m2dao.training.frames.conditions import RecordedLips, measure_conditions
from m2dao.training.frames.targets import TargetsAhead, TrainingFrames, decode_frames, scaled_intrinsics
from m2dao.training.optimizer import NamedAdam
from m2dao.training.progress import FitProgress, ProgressFiles
from m2dao.training.recipes import Recipe
from m2dao.training.speech.articulation import mouth_shapes
from m2dao.training.speech.fit_driver import SpeechFit, articulation_basis, make_speech_driver, speech_config
from m2dao.training.speech.learned_sound import learned_sound, sound_at_rest
from m2dao.training.state import Fit, FitConfig, FitData
from m2dao.training.step import StepRunner
from m2dao.training.universal import UniversalMotion

_MIN_FRAMES = 90
_CLOSING = 0.35  # lids closed by this share make a frame worth repeating


class Tell(Protocol):
    """Told what is being done, and the share of it that is."""

    def __call__(self, what: str, share: float | None = None) -> None: ...


def set_up_fit(config: FitConfig, on_progress: Callable[[FitProgress], None] | None = None) -> Fit:
    """Everything up to the first step, or to the next one where the same fit was stopped before.

    Args:
        config: what is fitted to what.
        on_progress: told what is being done, and later every few steps.

    Raises:
        CaptureCorrupt, CaptureRejected: the capture cannot be used.
        CheckpointCorrupt: there is a step checkpoint that cannot be read.
        ConfigError: universal motion of another kind of head.
    """
    clock, recipe, on_progress = FitClock(config.budget), config.recipe, on_progress or (lambda report: None)
    tell = _teller(on_progress, clock)
    config.work_dir.mkdir(parents=True, exist_ok=True)
    _check_kind(recipe, config.universal)
    capture, num_train = _open(config.capture_dir, recipe)
    reference = choose_reference_frames(capture, num_train)
    frames = _decode(capture, num_train, config, reference, tell)
    key = config.key(capture)
    stored = load_checkpoint(config.work_dir, key)
    voice = _voice(capture, num_train, config, stored, tell)
    tell("placing Gaussians")
    head = build_talking_head(capture, frames, recipe, reference, seed=config.seed, universal=config.universal)
    K, device = scaled_intrinsics(capture.K, capture.size, recipe.size), device_of(config.backend)
    lips, neutral = _recorded_lips(capture, num_train, config), reference.neutral
    conditions = measure_conditions(capture, head, voice.driver, frames, lips=lips, neutral=neutral, K=K, device=device)
    sound = learned_sound(capture, voice.driver, num_train) if recipe.learned_sound else None
    encoders = sound.driver if sound else None
    if stored:
        stored.restore_head(head)
    head.to(device)
    usable = np.array(frames.indices)[capture.valid[frames.indices]]
    fit = Fit(
        config=config,
        data=FitData(
            capture=capture,
            num_train=num_train,
            usable=usable,
            frames=frames,
            targets=_targets(frames, recipe, device),
            voice=voice,
            conditions=conditions._replace(sound=sound),
            K=K,
        ),
        key=key,
        clock=clock,
        order=_order(capture, usable, recipe, config.seed),
        head=head,
        adam=NamedAdam(head, recipe.rates, encoders),
        gradients={name: ScreenGradients(len(group), device) for name, group in head.groups.items()},
        runner=StepRunner(head, recipe, torch.from_numpy(K), backend=config.backend, sound=encoders),
        tell=on_progress,
        files=ProgressFiles(config.work_dir),
        last_saved_s=time.monotonic(),
    )
    if stored:
        stored.restore_progress(fit)
    clock.begin = ProgressBegin(stored.progress if stored else 0.0, clock.elapsed_s())
    return fit


def _teller(on_progress: Callable[[FitProgress], None], clock: FitClock) -> Tell:
    """A function that says what is done before the first step."""

    def tell(what: str, share: float | None = None) -> None:
        phase = what if share is None else f"{what} {share:.0%}"
        on_progress(FitProgress(0, 0.0, phase, math.nan, math.nan, clock.elapsed_s()))

    return tell


def _check_kind(recipe: Recipe, universal: UniversalMotion | None) -> None:
    """Universal motion, if there is any, is for the recipe's kind of head and of sound.

    Raises:
        ConfigError: it is not; says what differs.
    """
    if universal and recipe.learned_sound:
        raise ConfigError(f"universal motion for recipe {recipe.name}", "sound learned from lips", "from the picture")
    if universal and universal.model != recipe.model:
        pairs = (
            (f.name, getattr(recipe.model, f.name), getattr(universal.model, f.name)) for f in fields(recipe.model)
        )
        odd = ", ".join(name for name, ours, theirs in pairs if ours != theirs)
        raise ConfigError(f"universal motion for recipe {recipe.name}", "the same model", f"another {odd}")


def _open(folder: Path, recipe: Recipe) -> tuple[Capture, int]:
    """The capture with the recipe's kind of poses, and the number of frames of its training part."""
    capture = with_poses(Capture.open(folder), recipe.poses)
    train = split_recording(capture.num_frames).train
    if len(train) < _MIN_FRAMES:
        raise CaptureRejected(str(folder), f"{_MIN_FRAMES} frames to train on", str(len(train)))
    return capture, len(train)


def _decode(
    capture: Capture, num_train: int, config: FitConfig, reference: ReferenceFrames, tell: Tell
) -> TrainingFrames:
    """The frames that are worth decoding for a budget."""
    always = (reference.neutral, reference.widest, num_train - 1)
    return decode_frames(
        capture,
        config.recipe.size,
        choose_frames(capture, num_train, config.budget.num_frames, always),
        soft_masks=config.recipe.soft_masks,
        num_threads=get_num_threads(),
        on_progress=lambda share: tell("decoding frames", share),
    )


def _voice(capture: Capture, num_train: int, config: FitConfig, stored: StepCheckpoint | None, tell: Tell) -> SpeechFit:
    """The audio encoders; not learned again where a fit goes on."""
    start = config.universal.speech if config.universal else None
    if stored:
        return stored.voice(speech_config(capture, config.recipe, start))
    if config.recipe.learned_sound:
        return sound_at_rest(capture, speech_config(capture, config.recipe, start), num_train, seed=config.seed)
    return make_speech_driver(
        capture,
        config.recipe,
        num_train,
        seed=config.seed,
        start=start,
        on_progress=lambda share: tell("learning the voice", share),
    )


def _recorded_lips(capture: Capture, num_train: int, config: FitConfig) -> RecordedLips:
    """What the lips of the training part do; nothing that counts where the picture teaches the sound."""
    if config.recipe.learned_sound:
        return RecordedLips(np.zeros((num_train, config.recipe.model.embedding_size), np.float32), 0.0)
    start = config.universal.speech if config.universal else None
    basis = articulation_basis(capture, config.recipe, num_train, start)
    return RecordedLips(basis.of(mouth_shapes(capture), num_train)[:num_train], config.recipe.recorded_lips)


def _targets(frames: TrainingFrames, recipe: Recipe, device: torch.device) -> TargetsAhead:
    """What frames should look like; made ahead only for a GPU, as cores that take the steps are busy."""
    ahead = device.type == "cuda" and get_num_threads() > 1
    return TargetsAhead(frames, generate_torso=recipe.model.has_torso, device=device, ahead=ahead)


def _order(capture: Capture, usable: np.ndarray, recipe: Recipe, seed: int) -> FrameOrder:
    """Usable frames in random order, those with closing lids more often."""
    closing = usable[capture.blink[usable].max(axis=1) > _CLOSING]
    return FrameOrder(usable, closing, recipe.blink_repeats, seed, np.asarray(capture.lip_opening))
