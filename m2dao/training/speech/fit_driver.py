"""Teaches the audio encoders to say what the lips do.

Shapes: R feature rows, F features a row, T frames, D components, K encoders, B frames of a batch, H frames held out,
L rows a window.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from m2dao.audio.features import DEFAULT_FEATURES, get_extractor
from m2dao.capture.dataset import Capture
from m2dao.errors import ConfigError
from m2dao.motion.initialization import initialized_by
from m2dao.motion.speech import SpeechConfig, SpeechDriver
from m2dao.timeline import FRAME_RATE
from m2dao.training.recipes import Recipe
from m2dao.training.speech.articulation import ArticulationBasis, find_articulation_basis, mouth_shapes
from m2dao.training.speech.calibration import lip_gain
from m2dao.training.speech.fit_map import correlation_held_out, solve_encoders
from m2dao.training.speech.spoken import SpokenPart, SpokenRecording

_MAP_FRAMES = 4  # of a map's window
_RATE, _ADAPTING_RATE = 2e-3, 5e-4
_CHECK_EVERY, _PATIENCE = 50, 5  # batches between looks at the held-out part, and looks without gain before the end
_PUBLISHED_LOOKAHEAD = 3  # frames after its own that the published attention over eight sees
_ADAPTING_CHECKS = 20  # in the batches of one look, because there are few to come


class SpeechFit(NamedTuple):
    """A driver, and what frames say about its encoders that they were not learned from."""

    driver: SpeechDriver
    held_out_r: float  # correlation of the first component with the lips
    gain: Tensor  # [D] how far unseen embeddings are to be stretched, see calibration.py

    def calibrated(self) -> SpeechDriver:
        """The driver for sound it has not learned from."""
        driver = copy.deepcopy(self.driver)
        driver.embedding_std /= self.gain
        return driver


class SpeechStart(NamedTuple):
    """A voice learned from others, to start from."""

    driver: SpeechDriver
    basis: ArticulationBasis


def speech_config(capture: Capture, recipe: Recipe, start: SpeechStart | None = None) -> SpeechConfig:
    """The configuration of a capture's driver: that of the start, else one that fits its features."""
    if start is not None:
        if recipe.speech_encoder != start.driver.config.encoder:
            raise ConfigError(
                f"recipe {recipe.name!r}, which learns a {recipe.speech_encoder}",
                "a fit without universal motion",
                f"universal motion whose voice is a {start.driver.config.encoder}",
                "leave --universal out, or take another recipe",
            )
        return start.driver.config
    features = capture.feature(recipe.speech_features)
    frames, lookahead = SpeechConfig.frames_per_window, SpeechConfig.window_lookahead_frames
    if recipe.speech_encoder == "map":
        frames, lookahead = _MAP_FRAMES, _map_lookahead(recipe.speech_features)
    return SpeechConfig(
        features=recipe.speech_features,
        num_features=features.shape[1],
        rows_per_frame=len(features) // capture.num_frames,
        encoder_lookahead_frames=_PUBLISHED_LOOKAHEAD if recipe.learned_sound else 0,
        frames_per_window=frames,
        window_lookahead_frames=lookahead,
        embedding_size=recipe.model.embedding_size,
        num_encoders=recipe.speech_encoders,
        encoder=recipe.speech_encoder,
    )


def _map_lookahead(features: str) -> int:
    """Frames that a map may look ahead: as much sound as the networks wait for, features included."""
    networks = get_extractor(DEFAULT_FEATURES).lookahead_s + SpeechConfig.window_lookahead_frames / FRAME_RATE
    return max(0, int((networks - get_extractor(features).lookahead_s) * FRAME_RATE + 1e-6))


def articulation_basis(
    capture: Capture, recipe: Recipe, num_train: int, start: SpeechStart | None = None
) -> ArticulationBasis:
    """The basis that encoders speak in: that of the voice they start from, else the capture's own."""
    if start is not None:
        return start.basis
    return find_articulation_basis([mouth_shapes(capture)[:num_train]], recipe.model.embedding_size)


def spoken_recording(
    capture: Capture, config: SpeechConfig, num_train: int, basis: ArticulationBasis
) -> SpokenRecording:
    """What the encoder may learn of a capture."""
    features = capture.feature(config.features)[: num_train * config.rows_per_frame]
    return SpokenRecording(features, basis.of(mouth_shapes(capture), num_train)[:num_train])


def fit_speech_driver(
    config: SpeechConfig,
    recordings: list[SpokenRecording],
    *,
    seed: int,
    num_steps: int,
    start: SpeechDriver | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> SpeechFit:
    """Train the audio encoders on recorded lips.

    Another part of each recording is held out from each encoder; the state that predicts it best is kept. Each
    recording is normalised by its own statistics; the driver that comes back has those of the first.

    Args:
        config: features and sizes.
        recordings: of one person or several.
        seed: of initialisation and batches.
        num_steps: batches of consecutive frames, at most.
        start: a driver to go on from. Its embeddings keep their meaning: they stay centred and scaled as they were.
    """
    with initialized_by(seed):
        driver = SpeechDriver(config)
    if start is not None:
        driver.load_state_dict(start.state_dict())
    parts = [SpokenPart(driver, recording) for recording in recordings]
    encoders = _StackedEncoders(driver)
    _train(encoders, parts, seed=seed, num_steps=num_steps, adapting=start is not None, on_progress=on_progress)
    encoders.install_best(driver)
    driver.eval()
    with torch.no_grad():
        predicted = torch.cat([encoders(part.held_out(part.windows))[..., 0].flatten() for part in parts])
        recorded = torch.cat([part.held_out(part.target)[..., 0].flatten() for part in parts])
        _centre(driver, parts, keep=start is not None)
    held_out_r = float(np.corrcoef(predicted.numpy(), recorded.numpy())[0, 1])
    return SpeechFit(driver, held_out_r, torch.ones(config.embedding_size))


def fit_speech_map(config: SpeechConfig, recording: SpokenRecording) -> SpeechFit:
    """Linear encoders of one recording: the same answer whatever the seed.

    Another part is held out from each, as with networks, so that calibration can see what they do unseen.
    """
    driver = SpeechDriver(config)
    part = SpokenPart(driver, recording)
    solve_encoders(driver, part)
    driver.eval()
    _centre(driver, [part], keep=False)
    return SpeechFit(driver, correlation_held_out(driver, part), torch.ones(config.embedding_size))


@torch.no_grad()
def _centre(driver: SpeechDriver, parts: list[SpokenPart], *, keep: bool) -> None:
    """Centre and scale embeddings by what was learned from, unless they ``keep`` their meaning."""
    if not keep:
        learned = torch.cat([driver.articulation(part.windows) for part in parts])
        driver.embedding_mean.copy_(learned.mean(0))
        driver.embedding_std.copy_(learned.std(0).clamp_min(1e-3))
    driver.feature_mean.copy_(parts[0].mean)
    driver.feature_std.copy_(parts[0].std)


def _train(
    encoders: _StackedEncoders,
    parts: list[SpokenPart],
    *,
    seed: int,
    num_steps: int,
    adapting: bool,
    on_progress: Callable[[float], None] | None,
) -> None:
    """Train until the held-out parts gain nothing more; the best states are kept.

    Args:
        adapting: whether the encoders were learned from others before.
    """
    rate, check_every = (_ADAPTING_RATE, _ADAPTING_CHECKS) if adapting else (_RATE, _CHECK_EVERY)
    optimizer = torch.optim.AdamW(encoders.parameters.values(), lr=rate, weight_decay=3e-2, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([float(len(part.target)) for part in parts])
    if adapting:
        encoders.keep_best(_held_out_errors(encoders, parts, lengths))
    for step in range(num_steps):
        part = parts[int(torch.multinomial(lengths, 1, generator=generator))]
        optimizer.zero_grad()
        windows, target = part.batch(generator)
        _errors(encoders(windows), target).sum().backward()
        optimizer.step()
        schedule.step()
        if step % check_every == check_every - 1:
            encoders.keep_best(_held_out_errors(encoders, parts, lengths))
            if on_progress:
                on_progress(step / num_steps)
            if encoders.least_waited >= _PATIENCE:
                break


class _StackedEncoders:
    """All encoders of a driver, trained side by side in one call, and the best states they have had."""

    def __init__(self, driver: SpeechDriver):
        stacked, _ = stack_module_state(list(driver.encoders))
        self.parameters = {name: value.detach().requires_grad_() for name, value in stacked.items()}  # [K, ...]
        self._one = driver.encoders[0]
        self._best = {name: value.detach().clone() for name, value in self.parameters.items()}
        self._best_error = torch.full((len(driver.encoders),), torch.inf)
        self._waited = torch.zeros(len(driver.encoders))

    def __call__(self, windows: Tensor) -> Tensor:
        """Each encoder its own windows: [K, B, L, F] -> [K, B, D]."""
        return vmap(lambda state, rows: functional_call(self._one, state, (rows,)))(self.parameters, windows)

    def keep_best(self, errors: Tensor) -> None:
        """Remember the present state of each encoder whose error [K] is its smallest so far."""
        better = errors < self._best_error
        self._best_error = torch.where(better, errors, self._best_error)
        self._waited = torch.where(better, 0, self._waited + 1)
        for name, value in self.parameters.items():
            self._best[name][better] = value.detach()[better]

    @property
    def least_waited(self) -> int:
        """Looks since the encoder that gained last did."""
        return int(self._waited.min())

    @torch.no_grad()
    def install_best(self, driver: SpeechDriver) -> None:
        """Go back to the best states, here and in the driver."""
        for name, value in self.parameters.items():
            value.copy_(self._best[name])
        for number, encoder in enumerate(driver.encoders):
            encoder.load_state_dict({name: value[number] for name, value in self._best.items()})


def _errors(predicted: Tensor, target: Tensor) -> Tensor:
    """Smooth L1 on position and on speed, of each encoder: [K, B, D], [K, B, D] -> [K]."""
    position = nn.functional.smooth_l1_loss(predicted, target, reduction="none").mean((1, 2))
    speed = nn.functional.smooth_l1_loss(predicted.diff(dim=1), target.diff(dim=1), reduction="none").mean((1, 2))
    return position + 0.5 * speed


@torch.no_grad()
def _held_out_errors(encoders: _StackedEncoders, parts: list[SpokenPart], lengths: Tensor) -> Tensor:
    """Of a frame held out, whoever's it is: [K]; parts [P] count by their lengths [P]."""
    errors = [_errors(encoders(part.held_out(part.windows)), part.held_out(part.target)) for part in parts]
    return (torch.stack(errors) * lengths[:, None]).sum(0) / lengths.sum()


def make_speech_driver(
    capture: Capture,
    recipe: Recipe,
    num_train: int,
    *,
    seed: int,
    start: SpeechStart | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> SpeechFit:
    """The driver of a capture, see :func:`fit_speech_driver`, and its gain if the recipe calibrates lips."""
    config = speech_config(capture, recipe, start)
    recording = spoken_recording(capture, config, num_train, articulation_basis(capture, recipe, num_train, start))
    if config.encoder == "map":
        fitted = fit_speech_map(config, recording)
    else:
        fitted = fit_speech_driver(
            config,
            [recording],
            seed=seed,
            num_steps=recipe.speech_steps if start is None else recipe.speech_adapting_steps,
            start=start.driver if start else None,
            on_progress=on_progress,
        )
    if not recipe.calibrate_lips:
        return fitted
    return fitted._replace(gain=lip_gain(fitted.driver, recording, recipe.recorded_lips))
