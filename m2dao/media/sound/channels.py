"""Chooses which channels of a sound track are heard: the mix, unless it loses the voice.

The mix is wrong where channels cancel each other, and where the voice stands on one channel and something else on the
others. Names of layouts are not believed: in a file of three channels the third is taken for a bass channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from m2dao.media.sound.voices import voice_share

SILENT_LEVEL = 3e-4  # -70 dB
MUCH_QUIETER = 10 ** (-30 / 20)
ALIKE = 0.7  # correlation of two channels with the same sound
OPPOSITE = -0.5
VOICED = 0.1  # share of voice from which on somebody speaks
MAX_JUDGED = 8  # channels whose voice is judged; the loudest


@dataclass(frozen=True)
class Mix:
    """The channels that are heard, each as loud as the others.

    Attributes:
        num_channels: of the track.
        heard: their numbers, from 0 on.
        level: root mean square of what is heard, 0 to 1.
        reason: why not all; empty where they are all heard.
    """

    num_channels: int
    heard: tuple[int, ...]
    level: float = 0.0
    reason: str = ""

    @property
    def channel(self) -> int | None:
        """The one channel of several that is heard; None for all of them or a mix."""
        return self.heard[0] if len(self.heard) == 1 < self.num_channels else None

    def mono(self, samples: np.ndarray) -> np.ndarray:
        """float32 [S] of [C, S]; a track may change its channels in the middle."""
        if samples.shape[0] == 1:
            return samples[0]
        if samples.shape[0] != self.num_channels:
            return samples.mean(axis=0)
        return samples[self.heard[0]] if len(self.heard) == 1 else samples[list(self.heard)].mean(axis=0)


class Levels:
    """Loudness of channels and how alike they are, gathered piece by piece."""

    def __init__(self, num_channels: int):
        self.num_channels, self.num_samples = num_channels, 0
        self._products = np.zeros((num_channels, num_channels))

    def add(self, samples: np.ndarray) -> None:
        """float32 [C, S]."""
        if samples.shape[0] == self.num_channels:
            self._products += samples.astype(np.float64) @ samples.T.astype(np.float64)
            self.num_samples += samples.shape[1]

    def level(self, channels: list[int]) -> float:
        """Root mean square of the mean of some channels."""
        part = self._products[np.ix_(channels, channels)]
        return float(np.sqrt(max(part.mean(), 0.0) / max(self.num_samples, 1)))

    def alike(self, a: int, b: int) -> float:
        """Correlation of two channels, -1 to 1."""
        scale = np.sqrt(self._products[a, a] * self._products[b, b])
        return float(self._products[a, b] / scale) if scale > 0 else 0.0


def choose_mix(levels: Levels, hear: Callable[[list[int]], np.ndarray]) -> Mix:
    """Which channels to hear.

    Args:
        levels: of the track.
        hear: gives some channels as float32 [c, S] at 16 kHz; only called where levels do not decide.
    """
    num = levels.num_channels
    everyone = list(range(num))
    each = [levels.level([channel]) for channel in everyone]
    loudest = int(np.argmax(each))
    loud = [channel for channel in everyone if each[channel] > max(SILENT_LEVEL, MUCH_QUIETER * each[loudest])]
    if num == 1 or not loud:
        return Mix(num, tuple(everyone), levels.level(everyone))
    if len(loud) == 1:
        return Mix(num, (loudest,), each[loudest], f"the others of {num} channels are silent")
    against = [channel for channel in loud if levels.alike(loudest, channel) < OPPOSITE]
    if against:
        return Mix(num, (loudest,), each[loudest], "channels of opposite phase cancel each other")
    if all(levels.alike(loudest, channel) > ALIKE for channel in loud):
        reason = "" if len(loud) == num else f"{num - len(loud)} of {num} channels are silent"
        return Mix(num, tuple(loud), levels.level(loud), reason)
    return _by_voice(levels, each, loud, hear)


def _by_voice(levels: Levels, each: list[float], loud: list[int], hear: Callable[[list[int]], np.ndarray]) -> Mix:
    """Channels that hold different sounds: those with a voice."""
    num = levels.num_channels
    judged = sorted(sorted(loud, key=lambda channel: -each[channel])[:MAX_JUDGED])
    shares = dict(zip(judged, map(voice_share, hear(judged)), strict=True))
    best = max(shares, key=lambda channel: shares[channel])
    voiced = [channel for channel in judged if shares[channel] > 0.5 * shares[best]]
    heard = voiced if shares[best] > VOICED else loud
    level = levels.level(heard)
    if level < 0.35 * max(each[channel] for channel in heard) and len(heard) == 2:
        heard = [max(heard, key=lambda channel: each[channel])]
        return Mix(num, tuple(heard), each[heard[0]], "channels cancel each other")
    if heard == loud:
        return Mix(
            num, tuple(heard), level, "" if len(loud) == num else f"{num - len(loud)} of {num} channels are silent"
        )
    return Mix(num, tuple(heard), level, "the voice is not on the others")
