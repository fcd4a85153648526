"""Teaching the audio encoder to say what the lips do.

Shapes: R feature rows, T frames, A components, D embedding, L rows a window, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from m2dao.audio.features import DEFAULT_FEATURES
from m2dao.capture.dataset import Capture
from m2dao.motion.speech import SpeechConfig, SpeechDriver
from m2dao.training.articulation import ArticulationBasis, find_articulation_basis, mouth_shapes
from m2dao.training.recipes import Recipe

_MIN_GAIN = 0.5  # two seconds of held-out lips cannot prove that a voice says less than this
_HELD_OUT = 0.12  # of each training part, to stop before the encoder learns the recording by heart
_BATCH_FRAMES = 64
_NOISE = 0.4  # of a feature's standard deviation
_RATE, _ADAPTING_RATE = 2e-3, 5e-4
_CHECK_EVERY, _PATIENCE = 50, 10  # batches between looks at the held-out part, and looks without gain before the end
_ADAPTING_CHECKS = 20  # in the batches of one look, because there are few to come


class SpokenRecording(NamedTuple):
    """The training part of what one person said, and how."""

    features: np.ndarray  # [R, F]
    articulation: np.ndarray  # [T, A]


class SpeechFit(NamedTuple):
    """A driver, and what the frames it was not learned from say about it."""

    driver: SpeechDriver
    held_out_r: float  # correlation of the first component with the lips
    gain: float  # how far the lips go where the driver says 1, see _gain


class SpeechStart(NamedTuple):
    """A voice learned from others, to start from."""

    driver: SpeechDriver
    basis: ArticulationBasis


def speech_config(capture: Capture, embedding_size: int) -> SpeechConfig:
    """The configuration that fits a capture's features."""
    features = capture.feature(DEFAULT_FEATURES)
    return SpeechConfig(
        features=DEFAULT_FEATURES,
        num_features=features.shape[1],
        rows_per_frame=len(features) // capture.num_frames,
        embedding_size=embedding_size,
    )


def spoken_recording(capture: Capture, config: SpeechConfig, num_train: int, basis: ArticulationBasis) -> SpokenRecording:
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
    """Train the audio encoder on recorded lips.

    The last part of each recording is held out; the state that predicts it best is kept. Each recording is normalised by its own
    statistics; the driver that comes back has those of the first.

    Args:
        config: features and sizes.
        recordings: of one person or several.
        seed: of initialisation and batches.
        num_steps: batches of consecutive frames, at most.
        start: a driver to go on from, whose embeddings keep their meaning: how they are read does not change.
    """
    torch.manual_seed(seed)
    driver = SpeechDriver(config)
    if start is not None:
        driver.load_state_dict(start.state_dict())
    parts = [_Part(driver, recording) for recording in recordings]
    trained = driver.encoder if start is not None else driver
    optimizer = torch.optim.AdamW(trained.parameters(), lr=_RATE if start is None else _ADAPTING_RATE, weight_decay=3e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    check_every = _CHECK_EVERY if start is None else _ADAPTING_CHECKS
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([float(part.num_learn) for part in parts])
    best_error = _held_out_error(driver, parts) if start is not None else float("inf")
    best_state, waited = {name: value.clone() for name, value in driver.state_dict().items()}, 0
    for step in range(num_steps):
        driver.train()
        part = parts[int(torch.multinomial(lengths, 1, generator=generator))]
        optimizer.zero_grad()
        windows, target = part.batch(generator)
        _articulation_loss(driver, windows, target).backward()
        optimizer.step()
        schedule.step()
        if step % check_every == check_every - 1:
            error = _held_out_error(driver, parts)
            if error < best_error:
                best_error, waited = error, 0
                best_state = {name: value.clone() for name, value in driver.state_dict().items()}
            else:
                waited += 1
            if on_progress:
                on_progress(step / num_steps)
            if waited >= _PATIENCE:
                break
    driver.load_state_dict(best_state)
    driver.eval()
    with torch.no_grad():
        if start is None:
            _normalise_embeddings(driver, torch.cat([_embed(driver, part.windows) for part in parts]))
        predicted = [driver.articulation(_embed(driver, part.windows[part.num_learn :])).numpy() for part in parts]
        recorded = [part.target[part.num_learn :].numpy() for part in parts]
        driver.feature_mean.copy_(parts[0].mean)
        driver.feature_std.copy_(parts[0].std)
    first = [np.concatenate([rows[:, 0] for rows in side]) for side in (predicted, recorded)]
    return SpeechFit(driver, float(np.corrcoef(*first)[0, 1]), _gain(predicted, recorded))


def _gain(predicted: list[np.ndarray], recorded: list[np.ndarray]) -> float:
    """The slope of recorded over predicted articulation [T, A], between ``_MIN_GAIN`` and 1.

    A voice learned from seconds says more than it knows: on sound it has not heard, its lips go too far in directions that are partly
    wrong. By least squares they should go the slope's share of the way.
    """
    x = np.concatenate([rows - rows.mean(0) for rows in predicted])
    y = np.concatenate([rows - rows.mean(0) for rows in recorded])
    slope = float((x * y).sum() / max(float((x * x).sum()), 1e-12))
    return min(1.0, max(_MIN_GAIN, slope))


class _Part:
    """One recording, normalised."""

    def __init__(self, driver: SpeechDriver, recording: SpokenRecording):
        rows = torch.from_numpy(recording.features).float()
        self.mean, self.std = rows.mean(0), rows.std(0).clamp_min(1e-2)
        self.target = torch.from_numpy(recording.articulation)
        num_train = len(self.target)
        self.windows = driver.windows((rows - self.mean) / self.std, num_train)  # [T, L, F] views
        self.num_learn = int(num_train * (1 - _HELD_OUT))

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Windows [B, L, F] with noise, because other voices differ by more than that, and their articulation [B, A]."""
        size = min(_BATCH_FRAMES, self.num_learn)
        first = int(torch.randint(0, self.num_learn - size + 1, (1,), generator=generator))
        windows = self.windows[first : first + size]
        return windows + _NOISE * torch.randn(windows.shape, generator=generator), self.target[first : first + size]


def _embed(driver: SpeechDriver, windows: Tensor) -> Tensor:
    """Embeddings of windows that are normalised already."""
    return (driver.encoder(windows) - driver.embedding_mean) / driver.embedding_std


def _articulation_loss(driver: SpeechDriver, windows: Tensor, target: Tensor) -> Tensor:
    """Smooth L1 on position and on speed."""
    predicted = driver.articulation(_embed(driver, windows))
    position = nn.functional.smooth_l1_loss(predicted, target)
    speed = nn.functional.smooth_l1_loss(predicted.diff(dim=0), target.diff(dim=0))
    return position + 0.5 * speed


@torch.no_grad()
def _held_out_error(driver: SpeechDriver, parts: list[_Part]) -> float:
    """Of a frame held out, whoever's it is."""
    driver.eval()
    total = num_frames = 0
    for part in parts:
        windows, target = part.windows[part.num_learn :], part.target[part.num_learn :]
        total += len(target) * float(_articulation_loss(driver, windows, target))
        num_frames += len(target)
    return total / num_frames


def _normalise_embeddings(driver: SpeechDriver, raw: Tensor) -> None:
    """From now on embeddings have mean 0 and spread 1; the linear head, trained on raw ones, takes that back."""
    mean, std = raw.mean(0), raw.std(0).clamp_min(1e-3)
    driver.embedding_mean.copy_(mean)
    driver.embedding_std.copy_(std)
    driver.articulation.bias += driver.articulation.weight @ mean
    driver.articulation.weight *= std


def make_speech_driver(
    capture: Capture,
    recipe: Recipe,
    num_train: int,
    *,
    seed: int,
    start: SpeechStart | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> SpeechFit:
    """The driver of a capture, see :func:`fit_speech_driver`."""
    config = speech_config(capture, recipe.model.embedding_size)
    if start is None:
        basis = find_articulation_basis([mouth_shapes(capture)[:num_train]], config.articulation_size)
    else:
        basis = start.basis
    return fit_speech_driver(
        config,
        [spoken_recording(capture, config, num_train, basis)],
        seed=seed,
        num_steps=recipe.speech_steps if start is None else recipe.speech_adapting_steps,
        start=start.driver if start else None,
        on_progress=on_progress,
    )
