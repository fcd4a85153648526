"""States of the whisper-base encoder at 50 Hz, in fixed blocks: a stream gives a file's rows.

Whisper was trained on windows of 30 s; its encoder also takes shorter ones. Each block of ten frames is encoded with
1.6 s before and 0.2 s after it. That costs about five times the work of one long window and bounds look-ahead and
memory.
The feature is optional: its model file is 145 MB.

Shapes: B blocks, M = 80 mel bands, K mel rows of a block with context, F = 512.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from m2dao.assets import asset_path
from m2dao.audio.framewise import FramewiseFeatures
from m2dao.audio.logmel import follow_voice, row_powers
from m2dao.audio.spectrum import mel_filters, power_spectra
from m2dao.audio.voice import VoiceTracker
from m2dao.errors import AssetCorrupt, needs_extra
from m2dao.timeline import SAMPLE_RATE, SAMPLES_PER_FRAME

ASSET = "whisper_base_encoder"
MEL_HOP_SAMPLES = 160
HOP_SAMPLES = 320  # the encoder halves the rate of its input
NUM_FFT = 400
NUM_BANDS = 80
FRAMES_PER_BLOCK = 10
ROWS_BEFORE = 80
ROWS_AFTER = 10
FEATURE_SCALE = 0.5  # brings the states to about unit spread, like the other features
DYNAMIC_RANGE = 8.0  # decades kept under the loudest, as in training
# The loudest is at least this far (in decades of power) above full-scale noise, or silence would be stretched to
# speech.
QUIETEST_PEAK = -1.0
BLOCKS_AT_ONCE = 8


class WhisperEncoder(FramewiseFeatures):
    """Encoder states; silence and steady noise give one row.

    Args:
        model_folder: folder with ``model.bin`` and ``config.json`` in CTranslate2 format; the locked asset by default.
        num_threads: threads inside one call.
    """

    name = "whisper"
    dim = 512
    rate_hz = SAMPLE_RATE // HOP_SAMPLES
    frames_per_block = FRAMES_PER_BLOCK
    # The context, and half an analysis window beyond it.
    left_samples = ROWS_BEFORE * HOP_SAMPLES + NUM_FFT // 2
    right_samples = ROWS_AFTER * HOP_SAMPLES + NUM_FFT // 2

    def __init__(self, model_folder: Path | None = None, *, num_threads: int | None = None) -> None:
        with needs_extra("whisper"):
            import ctranslate2

        folder = Path(model_folder) if model_folder else asset_path(ASSET)
        folder = folder if folder.is_dir() else folder.parent
        try:
            self._model = ctranslate2.models.Whisper(
                str(folder), device="cpu", compute_type="int8", intra_threads=num_threads or min(4, os.cpu_count() or 1)
            )
        except RuntimeError as error:
            raise AssetCorrupt(
                str(folder), "a Whisper model in CTranslate2 format", str(error), "fetch it again: m2dao assets fetch"
            ) from error
        self._to_storage = ctranslate2.StorageView.from_array
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(NUM_FFT) / NUM_FFT)).astype(np.float32)
        self._filters = mel_filters(
            num_filters=NUM_BANDS, num_fft=NUM_FFT, sample_rate=SAMPLE_RATE, low_hz=0.0, high_hz=8000.0, slaney=True
        )
        num_samples = self.left_samples + FRAMES_PER_BLOCK * SAMPLES_PER_FRAME + self.right_samples
        self._silent_row = self._encode(np.zeros((1, num_samples), np.float32))[0].mean(axis=0)

    def initial_state(self) -> VoiceTracker:
        return VoiceTracker()

    def rows(self, blocks: np.ndarray, state: VoiceTracker) -> np.ndarray:
        rows = [self._encode(blocks[first : first + BLOCKS_AT_ONCE]) for first in range(0, len(blocks), BLOCKS_AT_ONCE)]
        states = np.concatenate(rows)  # [B, r, F]
        gates, _ = follow_voice(state, self._powers(blocks))
        gates = gates.reshape(*states.shape[:2], -1).mean(axis=2, keepdims=True).astype(np.float32)
        return (self._silent_row + gates * (states - self._silent_row)).reshape(-1, self.dim) * np.float32(
            FEATURE_SCALE
        )

    def _powers(self, blocks: np.ndarray) -> np.ndarray:  # [B, N] -> [B * frames, 4]
        """Row powers of the block's own frames, the view that the other features have."""
        start = self.left_samples - 1
        span = blocks[:, start : start + 1 + FRAMES_PER_BLOCK * SAMPLES_PER_FRAME]
        frames = np.lib.stride_tricks.sliding_window_view(span, SAMPLES_PER_FRAME + 1, axis=1)[:, ::SAMPLES_PER_FRAME]
        return row_powers(frames.reshape(-1, SAMPLES_PER_FRAME + 1), 1)

    def _encode(self, blocks: np.ndarray) -> np.ndarray:  # [B, N] -> [B, r, F]
        num_own = FRAMES_PER_BLOCK * self.rows_per_frame
        num_mel_rows = 2 * (ROWS_BEFORE + num_own + ROWS_AFTER)
        spectra = power_spectra(
            blocks,
            # The encoder centres its row j on mel row 2 j, which is to be the middle of the 20 ms of row j.
            first_centre=NUM_FFT // 2 + HOP_SAMPLES // 2,
            num_rows=num_mel_rows,
            hop_samples=MEL_HOP_SAMPLES,
            window=self._window,
            num_fft=NUM_FFT,
        )  # [B, K, bins]
        decades = np.log10(np.maximum(np.matmul(spectra, self._filters), 1e-10))
        peak = np.maximum(decades.max(axis=(1, 2), keepdims=True), QUIETEST_PEAK)
        mel = (np.maximum(decades, peak - DYNAMIC_RANGE) + 4.0) / 4.0
        mel = np.ascontiguousarray(mel.transpose(0, 2, 1), np.float32)
        states = np.array(self._model.encode(self._to_storage(mel)))
        return states[:, ROWS_BEFORE : ROWS_BEFORE + num_own]
