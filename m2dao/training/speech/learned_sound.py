"""Sound that is learned with the picture, as the published baseline learns it.

Shapes: T frames of the training part, L rows a window, F features a row, N neighbours, D embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from m2dao.audio.encoder import AudioEncoder
from m2dao.capture.dataset import Capture
from m2dao.motion.initialization import initialized_by
from m2dao.motion.speech import SpeechConfig, SpeechDriver
from m2dao.training.speech.fit_driver import SpeechFit


def sound_at_rest(capture: Capture, config: SpeechConfig, num_train: int, *, seed: int) -> SpeechFit:
    """A driver that has learned nothing yet but how to normalise features.

    It predicts no lips: its correlation with them is 0 by definition.
    """
    with initialized_by(seed):
        driver = SpeechDriver(config)
    rows = torch.from_numpy(capture.feature(config.features)[: num_train * config.rows_per_frame]).float()
    driver.feature_mean.copy_(rows.mean(0))
    driver.feature_std.copy_(rows.std(0).clamp_min(1e-2))
    return SpeechFit(driver.eval(), 0.0, torch.ones(config.embedding_size))


class LearnedSound(NamedTuple):
    """What gives each step the embedding of its frame, differentiable in the parameters of the encoder."""

    driver: SpeechDriver
    windows: Tensor  # [T, L, F] normalised

    def embedding(self, index: int) -> Tensor:
        """The embedding [D] of a frame; the value of the driver's ``forward`` inside the recording."""
        (encoder,) = self.driver.encoders
        assert isinstance(encoder, AudioEncoder)  # the recipe refuses a map that is learned with the picture
        neighbours = encoder.neighbours(np.array([index]), len(self.windows))[0]
        vectors = encoder.window_net(self.windows[torch.from_numpy(neighbours)])
        return self.driver.standardise(encoder.smoothing(vectors[None]))[0]


def learned_sound(capture: Capture, driver: SpeechDriver, num_train: int) -> LearnedSound:
    """The training part of a capture, for an encoder that is learned."""
    features = capture.feature(driver.config.features)[: num_train * driver.config.rows_per_frame]
    return LearnedSound(driver, driver.normalise(driver.windows(features, num_train)))
