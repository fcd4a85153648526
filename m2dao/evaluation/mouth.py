"""Measures the mouth of a video: tracked lips, compared with speech and with the recording.

Shapes: T frames, S pixels a side.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from m2dao.audio.lipsync import SyncResult, expected_lip_opening, sync_offset_and_confidence
from m2dao.audio.phones import Phones, posteriors_of
from m2dao.capture.faces.signals import measure_signals
from m2dao.capture.faces.tracker import FaceTracker
from m2dao.evaluation.closures import CLOSED_BELOW
from m2dao.evaluation.metrics import (
    bilabial_closure,
    blendshape_error,
    held_vowel_frames,
    lip_change,
    lip_jitter,
    lmd_px,
    mean_of_known,
    silent_frames,
)
from m2dao.evaluation.result import FaceFigures, VideoFigures
from m2dao.figures import known
from m2dao.regions import NUM_BLENDSHAPES, NUM_LANDMARKS

_MAX_LAG_FRAMES = 15
_MIN_LAG_FRAMES = 5


class Lips(NamedTuple):
    """Tracked faces of consecutive frames."""

    landmarks: np.ndarray  # [T, 478, 3] pixels
    blendshapes: np.ndarray  # [T, 52]
    lip_opening: np.ndarray  # [T] of the outer-eye distance


class LipTrack:
    """Follows the face through generated frames.

    Args:
        tracker: a tracker of its own.
    """

    def __init__(self, tracker: FaceTracker):
        self._tracker = tracker
        self._landmarks: list[np.ndarray] = []
        self._blendshapes: list[np.ndarray] = []
        self.num_missed = 0

    def add(self, picture: np.ndarray) -> None:
        """The next frame [S, S, 3] uint8; one without a face repeats the last and is counted."""
        found = self._tracker.track(np.ascontiguousarray(picture))
        if found is None:
            self.num_missed += 1
        if found is not None or not self._landmarks:
            self._landmarks.append(found.landmarks if found else np.full((NUM_LANDMARKS, 3), np.nan, np.float32))
            self._blendshapes.append(found.blendshapes if found else np.full(NUM_BLENDSHAPES, np.nan, np.float32))
        else:
            self._landmarks.append(self._landmarks[-1])
            self._blendshapes.append(self._blendshapes[-1])

    def finish(self) -> Lips:
        """Everything tracked."""
        return track_lips(np.array(self._landmarks), np.array(self._blendshapes))


def track_lips(landmarks: np.ndarray, blendshapes: np.ndarray) -> Lips:
    """Lips from what was tracked; leading frames without a face take the first one.

    Args:
        landmarks: [T, 478, 3] pixels, NaN where there was no face.
        blendshapes: [T, 52].
    """
    known = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
    if not len(known):
        return Lips(landmarks, blendshapes, np.full(len(landmarks), np.nan))
    first = known[0]
    landmarks, blendshapes = (
        np.concatenate([np.repeat(track[[first]], first, axis=0), track[first:]]) for track in (landmarks, blendshapes)
    )
    return Lips(landmarks, blendshapes, measure_signals(landmarks, blendshapes).lip_opening)


def lip_sync(phone_rows: np.ndarray, lip_opening: np.ndarray) -> SyncResult | None:
    """Offset and confidence of lips against speech; None for pieces too short or without a face.

    Args:
        phone_rows: [R, F] rows of the feature "phones" for just these frames.
        lip_opening: [T].
    """
    max_lag = min(_MAX_LAG_FRAMES, len(lip_opening) // 4)
    if max_lag < _MIN_LAG_FRAMES or not np.isfinite(lip_opening).all():
        return None
    expected = expected_lip_opening(phone_rows, _phone_names(), len(lip_opening))
    return sync_offset_and_confidence(expected, lip_opening, max_lag)


def measure_mouth(phone_rows: np.ndarray, lips: Lips, *, change: float | None = None) -> VideoFigures:
    """How well lips keep to the sound, how calm they are, and whether they close when they should.

    Args:
        phone_rows: [R, F] rows of the feature "phones" for just these frames.
        lips: tracked in the video.
        change: of its pictures, where that was measured.
    """
    opening, posteriors = lips.lip_opening, posteriors_of(phone_rows)
    silent = silent_frames(posteriors[:, 0], len(opening))
    held = held_vowel_frames(posteriors, _phone_names(), len(opening))
    closure, _ = bilabial_closure(opening, posteriors, _phone_names(), closed_below=CLOSED_BELOW)
    sync = lip_sync(phone_rows, opening)
    return VideoFigures(
        change=change,
        sync_offset_frames=sync.offset_frames if sync else None,
        sync_confidence=sync.confidence if sync else None,
        sync_sure=sync.sure if sync else None,
        lip_change=known(lip_change(opening)),
        jitter_silence=known(lip_jitter(opening, silent)),
        opening_silence=known(mean_of_known(opening[silent])),
        held_vowel_jitter=known(lip_jitter(opening, held)),
        closure_mbp=known(closure),
    )


def compare_faces(rendered: Lips, recorded: Lips) -> FaceFigures:
    """Landmark distance, blendshape error and lip correlation of a render against the recording."""
    errors = blendshape_error(rendered.blendshapes, recorded.blendshapes)
    return FaceFigures(
        lmd_px=known(lmd_px(rendered.landmarks, recorded.landmarks)),
        lower_blendshape_error=known(errors.lower),
        upper_blendshape_error=known(errors.upper),
        lip_correlation=known(_correlation(rendered.lip_opening, recorded.lip_opening)),
    )


@functools.cache
def _phone_names() -> tuple[str, ...]:
    return Phones().phones


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3 or np.ptp(a[both]) == 0 or np.ptp(b[both]) == 0:
        return math.nan
    return float(np.corrcoef(a[both], b[both])[0, 1])
