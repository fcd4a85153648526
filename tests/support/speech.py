"""Speech-like sound by code: voiced syllables, fricatives and pauses, seeded."""

from __future__ import annotations

import numpy as np

SAMPLE_RATE = 16_000
# First three formants, Hz: roughly a, e, i, o, u, m.
FORMANTS = (
    (730, 1090, 2440),
    (530, 1840, 2480),
    (270, 2290, 3010),
    (570, 840, 2410),
    (300, 870, 2240),
    (250, 1000, 2200),
)


def speech_like(seconds: float, *, seed: int = 0, pitch_hz: float = 120.0, level: float = 0.2) -> np.ndarray:
    """float32 [S]: syllables of 120-260 ms, one in four a fricative, one in six a pause."""
    rng = np.random.default_rng(seed)
    num_samples = round(seconds * SAMPLE_RATE)
    pieces = []
    total = 0
    while total < num_samples:
        length = int(rng.integers(1920, 4160))
        kind = rng.random()
        time_s = np.arange(length) / SAMPLE_RATE
        envelope = np.sin(np.pi * np.arange(length) / length) ** 0.5
        if kind < 1 / 6:
            piece = np.zeros(length)
        elif kind < 1 / 6 + 1 / 4:
            piece = 0.2 * envelope * np.diff(rng.normal(size=length + 1))
        else:
            formants = FORMANTS[rng.integers(len(FORMANTS))]
            harmonics = np.arange(1, int(4000 / pitch_hz))[:, None] * pitch_hz * (1 + 0.1 * rng.random())
            gains = sum(1 / (1 + ((harmonics - formant) / 90) ** 2) for formant in formants) / np.sqrt(harmonics)
            piece = 10 * envelope * (gains * np.sin(2 * np.pi * harmonics * time_s)).sum(axis=0)
        pieces.append(piece)
        total += length
    waveform = np.concatenate(pieces)[:num_samples]
    waveform += 1e-4 * rng.normal(size=num_samples)
    return (waveform * level / np.sqrt(np.mean(waveform**2))).astype(np.float32)
