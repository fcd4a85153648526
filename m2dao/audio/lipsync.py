"""By how many frames sound comes late against lips, measured without a trained audio-visual network.

Every phone has a typical lip opening that does not depend on who speaks (wide for AA, closed for M, B and P). Phone
posteriors weighted with it predict how far the lips should be open; the prediction is compared with what was seen at
every lag, and the best lag is the offset. Nothing is fitted to the recording, so a recording cannot teach the measure
its own lag, as it would a regression.

Both courses are band-passed first: slow changes (posture, mood, a smile) say nothing about timing, and noise of a
single frame neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

# Typical opening of the inner lips, 0 closed to 1 wide open; after the usual viseme tables of English.
LIP_OPENING_OF_PHONE = {
    "SIL": 0.1,
    **{"AA": 1.0, "AE": 1.0, "AY": 0.95, "AW": 0.9, "AO": 0.8, "EH": 0.8, "AH": 0.75, "EY": 0.7, "OY": 0.7},
    **{"OW": 0.6, "ER": 0.5, "IH": 0.5, "IY": 0.45, "UH": 0.45, "UW": 0.25},
    **{"M": 0.0, "B": 0.0, "P": 0.0, "F": 0.12, "V": 0.12, "W": 0.2},
    **{"HH": 0.6, "G": 0.5, "K": 0.5, "NG": 0.5, "L": 0.5, "D": 0.4, "T": 0.4, "N": 0.4, "DH": 0.4, "TH": 0.4},
    **{"Y": 0.4, "R": 0.35, "CH": 0.35, "JH": 0.35, "SH": 0.35, "ZH": 0.35, "S": 0.3, "Z": 0.3},
}

SMOOTH_FRAMES = 0.6  # standard deviations of the two Gaussians whose difference is the band-pass
TREND_FRAMES = 12.0
COHERENCE_FRAMES = 4.0  # about how long lip opening resembles itself: sets how many independent frames there are
SURE_SIGMAS = 4.0
MAX_LAG_FRAMES = 15


@dataclass(frozen=True, kw_only=True)
class SyncResult:
    """A lag scan.

    Attributes:
        offset_frames: frames by which the sound comes late (negative: early), to a fraction of a frame.
        confidence: correlation at the best lag above the median over all lags; 0.4 to 0.6 for good recordings.
        r: correlation at the best lag.
        sure: the confidence could hardly come about by chance in a recording of this length.
        lags: int [L], the lags tried.
        correlation: float [L], at each of them.
    """

    offset_frames: float
    confidence: float
    r: float
    sure: bool
    lags: np.ndarray
    correlation: np.ndarray


def expected_lip_opening(posteriors: np.ndarray, phones: tuple[str, ...], num_frames: int) -> np.ndarray:
    """How far the lips should be open, from speech alone.

    Args:
        posteriors: float [R, F], phone posteriors at a whole number of rows per frame.
        phones: the F names of the columns.

    Returns:
        float64 [num_frames], 0..1.
    """
    rows_per_frame, rest = divmod(len(posteriors), num_frames)
    if rest or not rows_per_frame or posteriors.shape[1] != len(phones):
        raise ValueError(
            f"posteriors: expected [k * {num_frames}, {len(phones)}], got {list(posteriors.shape)}"
        )
    opening = np.array([LIP_OPENING_OF_PHONE[name] for name in phones])
    return (posteriors.astype(np.float64) @ opening).reshape(num_frames, rows_per_frame).mean(1)


def sync_offset_and_confidence(
    expected: np.ndarray, seen: np.ndarray, max_lag: int = MAX_LAG_FRAMES
) -> SyncResult:
    """Compare what speech asks of the lips with what they do, at every lag.

    Args:
        expected: float [T], from `expected_lip_opening`.
        seen: float [T], measured lip opening in any unit.
        max_lag: frames to try in both directions.

    Raises:
        ValueError: lengths differ, or there are fewer than 4 * max_lag frames.
    """
    if len(expected) != len(seen) or len(seen) < 4 * max_lag:
        raise ValueError(f"expected two courses of one length, at least {4 * max_lag}; got {len(expected)}, {len(seen)}")
    expected, seen = _band_pass(expected), _band_pass(seen)
    lags = np.arange(-max_lag, max_lag + 1)
    middle = np.arange(max_lag, len(seen) - max_lag)
    correlation = np.array([_correlation(expected[middle + lag], seen[middle]) for lag in lags])
    best = int(np.argmax(correlation))
    r, confidence = float(correlation[best]), float(correlation[best] - np.median(correlation))
    num_independent = len(middle) / COHERENCE_FRAMES
    sure = 0 < best < len(lags) - 1 and confidence > SURE_SIGMAS / np.sqrt(num_independent)
    return SyncResult(
        offset_frames=float(lags[best] + _vertex(correlation, best)),
        confidence=confidence,
        r=r,
        sure=bool(sure),
        lags=lags,
        correlation=correlation,
    )


def _band_pass(course: np.ndarray) -> np.ndarray:
    course = np.asarray(course, np.float64)
    smooth = gaussian_filter1d(course, SMOOTH_FRAMES)
    return smooth - gaussian_filter1d(course, TREND_FRAMES)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0


def _vertex(values: np.ndarray, best: int) -> float:
    """Where between the neighbours of the largest value a parabola through the three has its top, -0.5..0.5."""
    if not 0 < best < len(values) - 1:
        return 0.0
    left, middle, right = values[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0
