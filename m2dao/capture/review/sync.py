"""Measures the lag between sound and lips of a recording, and takes it away."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from m2dao.audio.lipsync import expected_lip_opening, sync_offset_and_confidence
from m2dao.audio.phones import Phones
from m2dao.timeline import SAMPLES_PER_FRAME

MAX_LAG_FRAMES = 15
MIN_CORRECTED_FRAMES = 2  # one frame is within the error of the estimate


@dataclass(frozen=True, kw_only=True)
class SyncFinding:
    """What was found about a recording's lag, and what was done.

    Attributes:
        offset_frames: frames by which the recording's sound comes late against the lips (negative: early); 0 where
            that cannot be told.
        confidence: of the scan, see m2dao.audio.lipsync.
        r: correlation of predicted and seen lip opening at the best lag.
        corrected_frames: frames the stored sound was moved forward for it; 0 where the finding was not sure enough.
        lag_frames, lag_correlation: the whole scan, [L].
        problems: sentences for the quality report.
    """

    offset_frames: int
    confidence: float
    r: float
    corrected_frames: int
    lag_frames: np.ndarray
    lag_correlation: np.ndarray
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict:
        return {
            "offset_frames": self.offset_frames,
            "confidence": round(self.confidence, 4),
            "r": round(self.r, 4),
            "corrected_frames": self.corrected_frames,
        }


def shift_sound(waveform: np.ndarray, num_frames: int) -> np.ndarray:
    """float32 [S] heard `num_frames` frames earlier (negative: later), filled up with silence."""
    shift = num_frames * SAMPLES_PER_FRAME
    if shift >= 0:
        return np.pad(waveform[shift:], (0, min(shift, len(waveform))))
    return np.pad(waveform[:shift], (min(-shift, len(waveform)), 0))


def find_sync(phone_rows: np.ndarray, lip_opening: np.ndarray) -> SyncFinding:
    """Measure the lag of a recording and decide what to do about it.

    Args:
        phone_rows: float [R, F], the audio feature "phones", a whole number of rows per frame.
        lip_opening: float [T].
    """
    expected = expected_lip_opening(phone_rows, Phones().phones, len(lip_opening))
    found = sync_offset_and_confidence(expected, lip_opening, MAX_LAG_FRAMES)
    offset = round(found.offset_frames)
    corrected = offset if found.sure and abs(offset) >= MIN_CORRECTED_FRAMES else 0
    problems = []
    if not found.sure:
        problems.append("whether sound and lips are in time cannot be told: the stored lag is kept")
    elif corrected:
        when = "late" if corrected > 0 else "early"
        problems.append(f"the sound comes {abs(corrected)} frames {when} against the lips: corrected in the capture")
    return SyncFinding(
        offset_frames=offset if found.sure else 0,
        confidence=found.confidence,
        r=found.r,
        corrected_frames=corrected,
        lag_frames=found.lags,
        lag_correlation=found.correlation,
        problems=problems,
    )
