"""Finds how far predicted lips must be stretched to go as far as recorded ones.

Encoders say less than lips do: what they cannot hear, they leave out, and what they learned from, they know better than
what they will be asked. Lips then open less than recorded, and hardly ever close. The parts that were held out from
each encoder tell by how much. The gain is folded into the driver after the fit: a stretched embedding costs nothing.
Shapes: T frames, D components, K encoders, H frames held out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m2dao.motion.speech import SpeechDriver
from m2dao.training.speech.spoken import SpokenPart, SpokenRecording

_LEAST_GAIN, _MOST_GAIN = 1.0, 1.5
_LEAST_CORRELATION = 0.5  # a component that is hardly heard is left as it is
_TRUST = 0.25  # exponent: 0 stretches to the recorded spread whatever it is worth, 1 to the least squared error


@torch.no_grad()
def lip_gain(driver: SpeechDriver, recording: SpokenRecording, recorded_share: float) -> Tensor:
    """How far each component of unseen embeddings is to be stretched: [D].

    Args:
        driver: as learned from the recording.
        recording: its training part.
        recorded_share: of the recording's own lips in what drove the faces; the rest is what the encoders say.
    """
    part = SpokenPart(driver, recording)
    shown = (1 - recorded_share) * driver.articulation(part.windows) + recorded_share * part.target
    by_field = _covariance(part.target, shown) / shown.var(0, correction=0).clamp_min(1e-6)  # what fields make of it
    held_out = [encoder(windows) for encoder, windows in zip(driver.encoders, _windows(part), strict=True)]
    own, recorded = torch.stack(held_out), part.held_out(part.target)  # [K, H, D]
    spread = _ensemble_variance(driver, part, own).sqrt()
    known = torch.stack([_covariance(*pair) for pair in zip(recorded, own, strict=True)]).mean(0)
    recorded_spread = recorded.flatten(0, 1).std(0, correction=0).clamp_min(1e-6)
    correlation = (known / (spread * recorded_spread)).clamp(0, 1)
    gain = correlation**_TRUST * part.target.std(0, correction=0) / (by_field * spread).clamp_min(1e-6)
    return torch.where(correlation < _LEAST_CORRELATION, 1.0, gain.clamp(_LEAST_GAIN, _MOST_GAIN))


def _windows(part: SpokenPart) -> Tensor:
    """What each encoder has not learned from: [K, H, L, F]."""
    return part.held_out(part.windows)


def _ensemble_variance(driver: SpeechDriver, part: SpokenPart, own: Tensor) -> Tensor:
    """Variance [D] of the encoders' mean where none of them has learned.

    The mean of K has the variance v / K + (K - 1) / K c, with v of one encoder and c between two. Two encoders share
    what can be heard, so c is found between one that has not learned a part and one that has.

    Args:
        own: [K, H, D] what each encoder says about the part held out from it.
    """
    num_encoders = len(own)
    variance = own.var(1, correction=0).mean(0)
    if num_encoders == 1:
        return variance
    shared = torch.stack(
        [
            _covariance(own[number], encoder(windows))
            for number, windows in enumerate(_windows(part))
            for other, encoder in enumerate(driver.encoders)
            if other != number
        ]
    ).mean(0)
    return variance / num_encoders + (1 - 1 / num_encoders) * torch.minimum(shared.clamp_min(0), variance)


def _covariance(a: Tensor, b: Tensor) -> Tensor:
    """Of columns: two of [N, D] -> [D]."""
    return ((a - a.mean(0)) * (b - b.mean(0))).mean(0)
