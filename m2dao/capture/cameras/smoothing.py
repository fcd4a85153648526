"""Smooths noisy head poses into the most likely motion.

Every frame's pose was measured with some noise; heads have mass, so the jerk (third difference) of their motion is
small most of the time and large for the few frames where a nod begins or ends. The estimate maximises the probability
of both, with Student's t for the jerks so that a nod is not flattened (a low-pass filter would flatten it). All frames
are solved together by one banded Cholesky factorisation, linear in their number; nothing lags.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.linalg import solveh_banded

from m2dao.capture.cameras.bundle import POSE_DIM, Poses
from m2dao.capture.rotations import turns_between

_JERK = np.array([-1.0, 3.0, -3.0, 1.0])
_JERK_DOF = 3.0  # of Student's t: low enough for the few sudden moves, high enough to stay unimodal
_NUM_ROUNDS = 8
_ACROSS_A_JUMP = 1e-6  # of the usual weight: next to none, and still enough where nothing was measured
# White noise of unit variance has this variance after the third and the fifth difference (binomial sums).
_THIRD_DIFFERENCE_GAIN, _FIFTH_DIFFERENCE_GAIN = 20.0, 252.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionStatistics:
    """How noisy the measured poses are and how jerky the head is."""

    noise_covariance: np.ndarray  # [6, 6], of one frame's measured pose (radians, metres)
    jerk_sigma: np.ndarray  # [6], typical third difference of the true motion


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothedMotion:
    """The most likely motion."""

    poses: Poses
    remaining_noise: np.ndarray | None  # [T, 6], what is left of the noise that was passed in; None if none was


def smooth_poses(
    poses: Poses,
    information: np.ndarray,
    jerk_sigma: np.ndarray,
    noise: np.ndarray | None = None,
    *,
    jumps: Sequence[int] = (),
) -> SmoothedMotion:
    """Maximum a posteriori poses.

    Args:
        poses: T >= 4 measured poses.
        information: [T, 6, 6] inverse noise covariances of the measurements; zero for a frame that was not measured.
        jerk_sigma: [6], typical third differences of the motion (radians, metres).
        noise: [T, 6], a sample of the measurements' noise; it is passed through the same filter, so that the jitter
            that is left can be told from the motion.
        jumps: first frames after a jump cut, over which no motion leads.
    """
    num_frames = len(information)
    leaps = spanning(jumps, num_frames - 3, order=3)
    total = np.zeros((num_frames, POSE_DIM))
    current = poses
    for _ in range(_NUM_ROUNDS):
        jerks = third_differences(current)
        square = (jerks / jerk_sigma) ** 2
        weights = (_JERK_DOF + 1.0) / (_JERK_DOF + square) / jerk_sigma**2
        weights[leaps] *= _ACROSS_A_JUMP
        banded = _banded_hessian(information, weights)
        # Linearised about the present estimate: data pull back by the motion made so far, jerks push on.
        gradient = np.einsum("tij,tj->ti", information, total) + _jerk_transpose(weights * jerks, num_frames)
        step = -solveh_banded(banded, gradient.ravel(), lower=True, check_finite=False).reshape(num_frames, POSE_DIM)
        total += step
        current = current.moved(step)
    remaining = None
    if noise is not None:
        pull = np.einsum("tij,tj->ti", information, noise)
        remaining = solveh_banded(banded, pull.ravel(), lower=True, check_finite=False).reshape(num_frames, POSE_DIM)
    return SmoothedMotion(poses=current, remaining_noise=remaining)


def spanning(jumps: Sequence[int], length: int, *, order: int) -> list[int]:
    """Indices below ``length`` of the differences of some order that span a jump to ``jumps``."""
    return sorted({k for jump in jumps for k in range(max(jump - order, 0), min(jump, length))})


def third_differences(poses: Poses) -> np.ndarray:
    """[T - 3, 6] third differences of rotation (radians) and translation (metres)."""
    turns = turns_between(poses.rotations)
    return np.concatenate([np.diff(turns, 2, axis=0), np.diff(poses.translations, 3, axis=0)], axis=1)


def _jerk_transpose(values: np.ndarray, num_frames: int) -> np.ndarray:
    """The transpose of the third-difference operator: [T - 3, 6] -> [T, 6]."""
    result = np.zeros((num_frames, POSE_DIM))
    for offset, coefficient in enumerate(_JERK):
        result[offset : num_frames - 3 + offset] += coefficient * values
    return result


def _banded_hessian(information: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Lower banded form [3 * 6 + 1, 6 T] of information + D^T weights D, D the third difference."""
    num_frames = len(information)
    banded = np.zeros((3 * POSE_DIM + 1, num_frames, POSE_DIM))
    for row in range(POSE_DIM):
        for column in range(row + 1):
            banded[row - column, :, column] += information[:, row, column]
    for first in range(4):
        for second in range(first, 4):
            # Couples frame k + first (column) with frame k + second (row) through jerk k.
            lag = (second - first) * POSE_DIM
            banded[lag, first : num_frames - 3 + first] += _JERK[first] * _JERK[second] * weights
    return banded.reshape(3 * POSE_DIM + 1, -1)


def motion_statistics(poses: Poses, usable: np.ndarray) -> MotionStatistics:
    """Noise and jerk of measured poses, from their own high differences.

    Fifth differences of a head's motion at 25 frames per second are nearly all noise; what third differences have
    beyond that noise is motion.

    Args:
        usable: bool [T], frames whose pose was measured.
    """
    turns = turns_between(poses.rotations)
    motion = np.concatenate([turns, np.diff(poses.translations, axis=0)], axis=1)
    good = usable[1:] & usable[:-1]
    fifth = _clean_differences(motion, good, 4)
    third = _clean_differences(motion, good, 2)
    noise_sigma = _spread(fifth) / np.sqrt(_FIFTH_DIFFERENCE_GAIN)
    correlation = _correlation(fifth)
    jerk_variance = _spread(third) ** 2 - _THIRD_DIFFERENCE_GAIN * noise_sigma**2
    jerk_sigma = np.sqrt(np.maximum(jerk_variance, (0.3 * noise_sigma) ** 2))
    return MotionStatistics(noise_covariance=correlation * np.outer(noise_sigma, noise_sigma), jerk_sigma=jerk_sigma)


def _clean_differences(motion: np.ndarray, good: np.ndarray, order: int) -> np.ndarray:
    """Differences of ``motion`` [T, 6] that touch only good rows."""
    values = np.diff(motion, order, axis=0)
    kept = good[order:].copy()
    for offset in range(order):
        kept &= good[offset : len(good) - order + offset]
    return values[kept] if kept.any() else values


def _spread(values: np.ndarray) -> np.ndarray:
    """Standard deviation per column, unmoved by outliers."""
    return 1.4826 * np.median(np.abs(values - np.median(values, axis=0)), axis=0) + 1e-12


def _correlation(values: np.ndarray) -> np.ndarray:
    """Correlation matrix of the columns with outliers clipped at three spreads, kept well conditioned."""
    scaled = np.clip(values / _spread(values), -3.0, 3.0)
    covariance = scaled.T @ scaled / len(scaled)
    scale = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(scale, scale)
    return 0.98 * correlation + 0.02 * np.eye(len(scale))
