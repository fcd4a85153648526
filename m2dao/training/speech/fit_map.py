"""Solves for linear encoders: what seven seconds of a recording can teach.

A network of 13,000 weights learns the noise of a few seconds. Ridge regression has one answer and no seed. What is
said, by whom and in which language is settled before, by the features; what is left is how this person's lips go.
Shapes: T frames, L rows a window, F features a row, N inputs, D components.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from m2dao.audio.linear_encoder import LinearEncoder
from m2dao.motion.speech import SpeechDriver
from m2dao.training.speech.spoken import SpokenPart

_PENALTY = 200.0  # of the squared weights, for inputs of unit spread
_LEAST_SPREAD = 0.05  # of an input, so that a sound that hardly occurs does not count by its noise


@torch.no_grad()
def solve_encoders(driver: SpeechDriver, part: SpokenPart) -> None:
    """Give each linear encoder the weights that fit what is not held out from it."""
    for encoder, mine in zip(driver.encoders, part.learned_from, strict=True):
        assert isinstance(encoder, LinearEncoder)
        _solve(encoder, encoder.inputs(part.windows[mine]), part.target[mine])


def _solve(encoder: LinearEncoder, inputs: Tensor, target: Tensor) -> None:
    """Ridge regression of [T, N] on [T, D]; the mean is not punished."""
    rows, lips = inputs.double(), target.double()
    mean, spread = rows.mean(0), rows.std(0, correction=0).clamp_min(_LEAST_SPREAD)
    scaled, offset = (rows - mean) / spread, lips.mean(0)
    normal = scaled.T @ scaled + _PENALTY * torch.eye(scaled.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(normal, scaled.T @ (lips - offset)) / spread[:, None]  # [N, D]
    encoder.map.weight.copy_(weights.T)
    encoder.map.bias.copy_(offset - mean @ weights)


def correlation_held_out(driver: SpeechDriver, part: SpokenPart) -> float:
    """Of the first component, said and recorded, where no encoder has learned it."""
    with torch.no_grad():
        unheard = zip(driver.encoders, part.held_out(part.windows), strict=True)
        said = [encoder(windows)[:, 0] for encoder, windows in unheard]
    recorded = part.held_out(part.target)[..., 0].flatten()
    return float(np.corrcoef(torch.cat(said).numpy(), recorded.numpy())[0, 1])
