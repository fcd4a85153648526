"""What one person said and how, normalised, and what of it each encoder learns from.

Shapes: R feature rows, F features a row, T frames, D components, K encoders, B frames of a batch, H frames held out,
L rows a window.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from m2dao.motion.speech import SpeechDriver

_HELD_OUT = 0.12  # of each training part and for each encoder, to stop before it overfits
_BATCH_FRAMES = 32
_NOISE = 0.4  # of a feature's standard deviation


class SpokenRecording(NamedTuple):
    """The training part of what one person said, and how."""

    features: np.ndarray  # [R, F]
    articulation: np.ndarray  # [T, D]


class SpokenPart:
    """One recording, normalised, and the equal, evenly spaced parts held out from each encoder."""

    def __init__(self, driver: SpeechDriver, recording: SpokenRecording):
        rows = torch.from_numpy(recording.features).float()
        self.mean, self.std = rows.mean(0), rows.std(0).clamp_min(1e-2)
        self.target = torch.from_numpy(recording.articulation)
        num_frames, num_encoders = len(self.target), driver.config.num_encoders
        self.windows = driver.windows((rows - self.mean) / self.std, num_frames)  # [T, L, F] views
        num_held_out = num_frames - int(num_frames * (1 - _HELD_OUT))
        last = num_frames - num_held_out
        firsts = [last] if num_encoders == 1 else np.linspace(0, last, num_encoders).astype(int).tolist()
        self._held_out = [slice(first, first + num_held_out) for first in firsts]
        self._size = min(_BATCH_FRAMES, *(max(part.start, num_frames - part.stop) for part in self._held_out))
        starts = torch.arange(num_frames - self._size + 1)
        self._starts = [starts[(starts + self._size <= part.start) | (starts >= part.stop)] for part in self._held_out]

    @property
    def learned_from(self) -> list[Tensor]:
        """Which frames each encoder may learn from: K of bool [T]."""
        frames = torch.arange(len(self.target))
        return [(frames < part.start) | (frames >= part.stop) for part in self._held_out]

    def held_out(self, rows: Tensor) -> Tensor:
        """What of windows or targets [T, ...] each encoder must not learn from: [K, H, ...]."""
        return torch.stack([rows[part] for part in self._held_out])

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Windows [K, B, L, F] and their articulation [K, B, D]; with noise, for other voices differ by more."""
        firsts = [int(starts[torch.randint(len(starts), (1,), generator=generator)]) for starts in self._starts]
        windows, target = (
            torch.stack([rows[first : first + self._size] for first in firsts]) for rows in (self.windows, self.target)
        )
        return windows + _NOISE * torch.randn(windows.shape, generator=generator), target
