"""Log-mel spectrogram, 80 bands at 100 Hz, relative to the running speech level.

Shapes: B blocks (one frame each), r = 4 rows a frame, K bins, F = 80 bands.
"""

from __future__ import annotations

import numpy as np

from m2dao.audio.framewise import FramewiseFeatures
from m2dao.audio.spectrum import mel_filters, power_spectra
from m2dao.audio.voice import VoiceTracker
from m2dao.timeline import SAMPLE_RATE, SAMPLES_PER_FRAME

HOP_SAMPLES = 160
WINDOW_SAMPLES = 400
NUM_FFT = 512
NUM_BANDS = 80
RANGE_DB = 50.0  # bands this far under the speech level are silent; the same distance is one unit of the feature
ZERO_DB = 25.0  # a band this far under the speech level is about the middle of what is heard: value 0


class LogMel(FramewiseFeatures):
    """Log-mel rows, about -1..1, where silence and steady noise give the row of all -1.

    Value 0 is ``ZERO_DB`` under the speech level that the voice tracker follows, so the rows do not depend on the gain
    of the microphone; nothing is computed over the whole clip.
    """

    name = "logmel"
    dim = NUM_BANDS
    rate_hz = SAMPLE_RATE // HOP_SAMPLES
    # The first and last window of a frame reach (W - hop) / 2 beyond it.
    left_samples = (WINDOW_SAMPLES - HOP_SAMPLES) // 2
    right_samples = (WINDOW_SAMPLES - HOP_SAMPLES) // 2

    def __init__(self) -> None:
        # "periodic" Hann window, so that shifted copies add up evenly
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)).astype(np.float32)
        self._filters = mel_filters(
            num_filters=NUM_BANDS, num_fft=NUM_FFT, sample_rate=SAMPLE_RATE, low_hz=50.0, high_hz=7600.0
        )
        # Full scale: with this factor a filter of unit area reads the mean power density of its band.
        self._power_scale = np.float32(2.0 / (SAMPLE_RATE * np.sum(self._window.astype(np.float64) ** 2)))

    def initial_state(self) -> VoiceTracker:
        return VoiceTracker()

    def rows(self, blocks: np.ndarray, state: VoiceTracker) -> np.ndarray:
        num_rows = SAMPLES_PER_FRAME // HOP_SAMPLES
        spectra = power_spectra(
            blocks,
            first_centre=self.left_samples + HOP_SAMPLES // 2,
            num_rows=num_rows,
            hop_samples=HOP_SAMPLES,
            window=self._window,
            num_fft=NUM_FFT,
        )  # [B, r, K]
        # A stack of small products gives each block the same result however many there are; one big product need not.
        density = np.matmul(spectra * self._power_scale, self._filters)  # [B, r, F], power per Hz
        bands_db = 10.0 * np.log10(np.maximum(density * np.float32(SAMPLE_RATE / 2), 1e-12))
        gates, levels_db = follow_voice(state, row_powers(blocks, self.left_samples))
        relative_db = bands_db - levels_db[..., None]
        # Loud bands lie above the wide-band level: speech is denser there than over the whole range.
        values = np.clip((relative_db + ZERO_DB) / (RANGE_DB / 2), -1.0, 1.5)
        values = -1.0 + gates[..., None] * (values + 1.0)
        return values.reshape(-1, NUM_BANDS).astype(np.float32)


def row_powers(blocks: np.ndarray, left_samples: int) -> np.ndarray:
    """Mean power of each 10 ms row of one-frame blocks, without the part below 100 Hz where rooms hum.

    Args:
        blocks: [B, N] with at least one sample before the frame at ``left_samples``.

    Returns:
        [B, 4] float64.
    """
    own = blocks[:, left_samples : left_samples + SAMPLES_PER_FRAME].astype(np.float64)
    before = blocks[:, left_samples - 1 : left_samples + SAMPLES_PER_FRAME - 1]
    # A first difference is a high-pass of +6 dB an octave; the factor gives unit gain near 2 kHz.
    difference = (own - 0.97 * before) * 1.3
    return np.mean(difference.reshape(len(blocks), -1, HOP_SAMPLES) ** 2, axis=2)


def follow_voice(tracker: VoiceTracker, powers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Run ``tracker`` over rows in order.

    Args:
        powers: [B, r] mean power of each row.

    Returns:
        gates [B, r] in 0..1 and speech levels in dB [B, r].
    """
    gates = np.empty(powers.shape)
    levels_db = np.empty(powers.shape)
    for index, power in enumerate(powers.ravel().tolist()):
        gates.flat[index] = tracker.update(power)
        levels_db.flat[index] = tracker.level_db
    return gates, levels_db
