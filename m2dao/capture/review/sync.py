"""Measures the lag between sound and lips of a recording, and takes it away."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from m2dao.audio.lipsync import expected_lip_opening, sync_offset_and_confidence
from m2dao.audio.phones import Phones
from m2dao.capture.review.findings import Finding
from m2dao.timeline import SAMPLES_PER_FRAME

MAX_LAG_FRAMES = 15
ROUNDED_UP_FROM = 0.7  # of a frame: a lag nearer to none is not taken away
ONE_FRAME_CERTAINTY = 1.3  # of the confidence that more frames need: lips half hidden look one frame off


@dataclass(frozen=True, kw_only=True)
class SyncFinding:
    """What was found about a recording's lag, and what was done.

    Attributes:
        offset_frames: frames by which the recording's sound comes late against the lips (negative: early); 0 where
            that cannot be told or is less than a frame.
        confidence: of the scan, see m2dao.audio.lipsync.
        r: correlation of predicted and seen lip opening at the best lag.
        corrected_frames: frames the stored sound was moved forward for it: all that was found.
        lag_frames, lag_correlation: the whole scan, [L].
        problems: for the quality report.
    """

    offset_frames: int
    confidence: float
    r: float
    corrected_frames: int
    lag_frames: np.ndarray
    lag_correlation: np.ndarray
    problems: list[Finding] = field(default_factory=list)

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
    size = abs(found.offset_frames)
    whole = int(size + 1 - ROUNDED_UP_FROM) if size < 1 else round(size)
    sure = found.sure and (whole != 1 or found.confidence > ONE_FRAME_CERTAINTY * found.needed)
    corrected = int(np.copysign(whole, found.offset_frames)) if sure else 0
    problems = []
    if not found.sure:
        text = "whether sound and lips are in time cannot be told: the stored lag is kept"
        problems.append(Finding("lag unknown", text))
    elif corrected:
        when = "late" if corrected > 0 else "early"
        number = f"{abs(corrected)} frame{'s' if abs(corrected) > 1 else ''}"
        text = f"the sound comes {number} {when} against the lips: corrected in the capture"
        problems.append(Finding("lag", text))
    return SyncFinding(
        offset_frames=corrected,
        confidence=found.confidence,
        r=found.r,
        corrected_frames=corrected,
        lag_frames=found.lags,
        lag_correlation=found.correlation,
        problems=problems,
    )
