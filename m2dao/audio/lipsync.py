"""Measures how well lips follow sound, and by how many frames they are apart, without a network.

Two expectations of the lip opening are compared with what is seen, at every lag:

- what phones ask of anybody's lips: every phone has a typical opening (wide for AA, closed for M, B and P). Nothing is
  fitted to the recording, so a recording cannot teach the measure its own lag;
- what one person's lips do: ``SyncProbe``, ridge regression on the audio features around a frame, fitted on a
  recording's train part. It judges held-out or generated frames of the same person; figures of different people do not
  compare.

All courses are band-passed first: slow changes (posture, mood, a smile) say nothing about timing, and noise of a single
frame neither.

Shapes: R rows, F values a row, T frames (R is a multiple of T), C principal components, A taps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from m2dao.audio.phones import posteriors_of
from m2dao.errors import InputError

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

NUM_COMPONENTS = 40
TAPS_FRAMES = 3  # the probe sees this many frames to both sides
NUM_FOLDS = 5
GAP_FRAMES = 12  # left out between what is fitted and what is predicted, because neighbouring frames are alike
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0)
MIN_PROBE_FRAMES = 75


@dataclass(frozen=True, kw_only=True)
class SyncResult:
    """A lag scan.

    Attributes:
        offset_frames: frames by which the sound comes late (negative: early), to a fraction of a frame.
        confidence: correlation at the best lag above the median over all lags; 0.4 to 0.6 for good recordings.
        r: correlation at the best lag.
        sure: the confidence could hardly come about by chance in a recording of this length.
        needed: the confidence from which on that is so.
        lags: int [L], the lags tried.
        correlation: float [L], at each of them.
    """

    offset_frames: float
    confidence: float
    r: float
    sure: bool
    needed: float
    lags: np.ndarray
    correlation: np.ndarray


def expected_lip_opening(rows: np.ndarray, phones: tuple[str, ...], num_frames: int) -> np.ndarray:
    """How far the lips should be open, from speech alone.

    Args:
        rows: [R, F], rows of the audio feature "phones".
        phones: the F names of the columns.

    Returns:
        [num_frames] float64, 0..1.

    Raises:
        InputError: R is not a multiple of ``num_frames`` or F not the number of phones.
    """
    opening = np.array([LIP_OPENING_OF_PHONE[name] for name in phones])
    if np.ndim(rows) != 2 or np.shape(rows)[1] != len(phones):
        raise InputError("phone rows", f"shape [R, {len(phones)}]", str(list(np.shape(rows))))
    return _pooled((posteriors_of(rows) @ opening)[:, None], num_frames)[:, 0]


def sync_offset_and_confidence(expected: np.ndarray, seen: np.ndarray, max_lag: int = MAX_LAG_FRAMES) -> SyncResult:
    """Compare what speech asks of the lips with what they do, at every lag.

    Args:
        expected: [T], from ``expected_lip_opening`` or ``SyncProbe.predict``.
        seen: [T], measured lip opening in any unit; NaN where there was no face.
        max_lag: frames to try in both directions.

    Raises:
        InputError: lengths differ, or there are fewer than 4 * max_lag frames.
    """
    if len(expected) != len(seen) or len(seen) < 4 * max_lag:
        raise InputError(
            "lip-sync scan",
            f"two courses of one length, at least {4 * max_lag} frames",
            f"{len(expected)} and {len(seen)}",
            "use a longer piece",
        )
    expected, seen = _band_pass(expected), _band_pass(seen)
    lags = np.arange(-max_lag, max_lag + 1)
    middle = np.arange(max_lag, len(seen) - max_lag)
    correlation = np.array([_correlation(expected[middle + lag], seen[middle]) for lag in lags])
    best = int(np.argmax(correlation))
    r, confidence = float(correlation[best]), float(correlation[best] - np.median(correlation))
    needed = float(SURE_SIGMAS / np.sqrt(len(middle) / COHERENCE_FRAMES))
    sure = 0 < best < len(lags) - 1 and confidence > needed
    return SyncResult(
        offset_frames=float(lags[best] + _vertex(correlation, best)),
        confidence=confidence,
        r=r,
        sure=bool(sure),
        needed=needed,
        lags=lags,
        correlation=correlation,
    )


class SyncProbe:
    """Predicts the lip opening of one person from audio features; made by ``fit``."""

    def __init__(self, *, mean: np.ndarray, basis: np.ndarray, weights: np.ndarray):
        self._mean = mean  # [F]
        self._basis = basis  # [F, C]
        self._weights = weights  # [A * C]

    @classmethod
    def fit(cls, features: np.ndarray, lip_opening: np.ndarray) -> SyncProbe:
        """The probe of a recording, its ridge penalty chosen by cross-validation.

        Args:
            features: [R, F] rows of an audio feature, R a multiple of T.
            lip_opening: [T] in any unit; NaN where there was no face.

        Raises:
            InputError: fewer than ``MIN_PROBE_FRAMES`` frames, rows that do not fit, or features that are not finite.
        """
        pooled, target = _checked(features, lip_opening)
        mean, basis = _principal_components(pooled)
        design = _tapped((pooled - mean) @ basis)
        scores = [_correlation(_cross_predicted(design, target, penalty), target) for penalty in PENALTIES]
        return cls(mean=mean, basis=basis, weights=_ridge(design, target, PENALTIES[int(np.argmax(scores))]))

    def predict(self, features: np.ndarray, num_frames: int) -> np.ndarray:
        """Expected opening without its slow part: [R, F] -> [num_frames]."""
        return _tapped((_pooled(features, num_frames) - self._mean) @ self._basis) @ self._weights

    def score(self, features: np.ndarray, lip_opening: np.ndarray) -> float:
        """Correlation of predicted and seen opening; a held-out one if these frames were not fitted on."""
        pooled, target = _checked(features, lip_opening)
        return _correlation(self.predict(pooled, len(target)), target)

    def scan(self, features: np.ndarray, lip_opening: np.ndarray, max_lag: int = MAX_LAG_FRAMES) -> SyncResult:
        """``sync_offset_and_confidence`` of this person's expected opening.

        Args:
            features: [R, F] of the sound that the lips should follow.
            lip_opening: [T], of a recording or of generated frames.
        """
        return sync_offset_and_confidence(self.predict(features, len(lip_opening)), lip_opening, max_lag)


def held_out_correlation(features: np.ndarray, lip_opening: np.ndarray) -> float:
    """Correlation of the opening with predictions of probes that did not see that fifth.

    Args:
        features: [R, F] rows of an audio feature, R a multiple of T.
        lip_opening: [T] in any unit; NaN where there was no face.
    """
    pooled, target = _checked(features, lip_opening)
    mean, basis = _principal_components(pooled)
    design = _tapped((pooled - mean) @ basis)
    return max(_correlation(_cross_predicted(design, target, penalty), target) for penalty in PENALTIES)


def _checked(features: np.ndarray, lip_opening: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features [T, F] and the band-passed opening [T]."""
    num_frames = len(lip_opening)
    if num_frames < MIN_PROBE_FRAMES:
        raise InputError("lip-sync probe", f"at least {MIN_PROBE_FRAMES} frames", str(num_frames), "use a longer piece")
    pooled = _pooled(features, num_frames)
    if not np.isfinite(pooled).all():
        raise InputError("lip-sync probe", "finite audio features", "NaN or infinite values")
    return pooled, _band_pass(lip_opening)


def _pooled(features: np.ndarray, num_frames: int) -> np.ndarray:  # [R, F] -> [T, F]
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or num_frames < 1 or len(features) < num_frames or len(features) % num_frames:
        raise InputError(
            "lip-sync measure",
            f"feature rows [R, F] with R a multiple of {num_frames} frames",
            str(list(features.shape)),
            "cut sound and frames to the same length",
        )
    return features.reshape(num_frames, -1, features.shape[1]).mean(axis=1)


def _principal_components(pooled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # -> mean [F], basis [F, C]
    mean = pooled.mean(axis=0)
    centred = pooled - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    # Scaled as a whole and not each by itself, so that the penalty keeps weak components small.
    return mean, vectors[:, ::-1][:, :NUM_COMPONENTS] / np.sqrt(max(values.sum(), 1e-12))


def _tapped(components: np.ndarray) -> np.ndarray:  # [T, C] -> [T, A * C]
    indices = np.arange(len(components))[:, None] + np.arange(-TAPS_FRAMES, TAPS_FRAMES + 1)
    return components[np.clip(indices, 0, len(components) - 1)].reshape(len(components), -1)


def _ridge(design: np.ndarray, target: np.ndarray, penalty: float) -> np.ndarray:
    """Weights of least squares with ``penalty`` times the mean column power on their squares."""
    gram = design.T @ design
    gram[np.diag_indices_from(gram)] += penalty * np.trace(gram) / len(gram) + 1e-12
    return np.linalg.solve(gram, design.T @ target)


def _cross_predicted(design: np.ndarray, target: np.ndarray, penalty: float) -> np.ndarray:
    """Each contiguous fifth predicted by the weights of the rest."""
    predicted = np.zeros(len(target))
    for fold in np.array_split(np.arange(len(target)), NUM_FOLDS):
        train = np.ones(len(target), bool)
        train[max(0, fold[0] - GAP_FRAMES) : fold[-1] + 1 + GAP_FRAMES] = False
        predicted[fold] = design[fold] @ _ridge(design[train], target[train], penalty)
    return predicted


def _band_pass(course: np.ndarray) -> np.ndarray:
    course = np.asarray(course, np.float64)
    known = np.isfinite(course)
    if not known.any():
        raise InputError("lip opening", "at least one frame with a face", "none")
    if not known.all():
        frames = np.arange(len(course))
        course = np.interp(frames, frames[known], course[known])
    smooth = gaussian_filter1d(course, SMOOTH_FRAMES)
    return smooth - gaussian_filter1d(course, TREND_FRAMES)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0


def _vertex(values: np.ndarray, best: int) -> float:
    """Where a parabola through the largest value and its neighbours has its top, -0.5..0.5."""
    if not 0 < best < len(values) - 1:
        return 0.0
    left, middle, right = values[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0
