"""Measures how the shoulders move with the head, on the recording before the fit.

Points on the torso are followed from the reference frame through the training part. Each frame's similarity transform
(shift, roll, growth) is then explained by the head's pose, linearly and with a ridge: so poses outside that part still
give a sensible torso. Each shot has a posture of its own besides, because people sit otherwise after a cut.
Shapes: T frames, S pixels a side, M shots.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from m2dao.motion.talking_head import TalkingHead
from m2dao.motion.torso import NUM_SWAY
from m2dao.training.frames.targets import TrainingFrames

_MAX_POINTS = 200
_MIN_POINTS = 12
_EVERY = 2  # frames: neighbours say nearly the same
_RIDGE = 3.0  # in frames of evidence against each standardised pose feature
_SHOT_RIDGE = 1.0
_SURE = 0.98


class TorsoSway(NamedTuple):
    """What the recording shows."""

    weight: np.ndarray  # [4, 12] shift right and down (metres), roll and growth, by pose feature
    postures: np.ndarray  # [M, 4] the same at rest, by shot


def measure_torso_sway(
    head: TalkingHead, frames: TrainingFrames, reference: int, features: np.ndarray, shots: np.ndarray, K: np.ndarray
) -> TorsoSway:
    """Measure the torso's sway.

    Args:
        head: the model, for the place of its torso.
        frames: of the training part.
        reference: frame at which the torso is canonical.
        features: [T, 12] pose features of the training part.
        shots: [T] number of each frame's shot.
        K: [3, 3] for the frames' size.

    Returns:
        The sway; all zero where the torso has too little texture to follow.
    """
    assert head.torso is not None, "only a head with a torso sways"
    num_shots = int(shots.max()) + 1
    motions, indices = _follow(frames, reference)
    if len(indices) < 4 * features.shape[1]:
        return TorsoSway(np.zeros((NUM_SWAY, features.shape[1])), np.zeros((num_shots, NUM_SWAY)))
    depth = float(head.groups["torso"].raw["means"][:, 2].detach().mean())
    center = head.torso.center.numpy()
    pixel = (K @ (center / center[2]))[:2]
    # From transforms of the picture, x -> A x + b, to shift at the torso's centre in metres, roll and growth.
    shift = np.einsum("tij,j->ti", motions[:, :, :2], pixel) + motions[:, :, 2] - pixel
    measured = np.concatenate([shift * depth / K[0, 0], motions[:, 1, :1], motions[:, 0, :1] - 1], axis=1)  # [T, 4]
    return _ridge(features[indices], measured, shots[indices], num_shots)


def _follow(frames: TrainingFrames, reference: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarity transforms [T', 2, 3] from the reference frame to others, and those frames' numbers [T']."""
    first = cv2.cvtColor(frames.rgb(reference), cv2.COLOR_RGB2GRAY)
    mask = (frames.masks(reference)[..., 3] > _SURE).astype(np.uint8)
    points = cv2.goodFeaturesToTrack(first, _MAX_POINTS, 0.01, 4, mask=mask)
    motions, indices = [], []
    if points is None or len(points) < _MIN_POINTS:
        return np.zeros((0, 2, 3)), np.zeros(0, int)
    at = frames.indices.index(reference)
    for direction in (frames.indices[at::_EVERY], frames.indices[at::-_EVERY]):
        guess = points.copy()
        for index in direction:
            gray = cv2.cvtColor(frames.rgb(index), cv2.COLOR_RGB2GRAY)
            found, seen, _ = cv2.calcOpticalFlowPyrLK(
                first, gray, points, guess.copy(), winSize=(21, 21), maxLevel=3, flags=cv2.OPTFLOW_USE_INITIAL_FLOW
            )
            good = seen[:, 0] == 1
            if good.sum() < _MIN_POINTS:
                continue
            motion, inliers = cv2.estimateAffinePartial2D(points[good], found[good], ransacReprojThreshold=2.0)
            if motion is None or inliers.sum() < _MIN_POINTS:
                continue
            guess = cv2.transform(points, motion).astype(np.float32)
            motions.append(motion)
            indices.append(index)
    return np.array(motions).reshape(-1, 2, 3), np.array(indices, int)


def _ridge(features: np.ndarray, target: np.ndarray, shots: np.ndarray, num_shots: int) -> TorsoSway:
    """Ridge regression on standardised features and the shot; an unseen shot rests like the average one."""
    mean, spread = features.mean(0), features.std(0) + 1e-6
    design = np.concatenate([(features - mean) / spread, np.eye(num_shots)[shots]], axis=1)
    penalty = np.diag([_RIDGE] * features.shape[1] + [_SHOT_RIDGE] * num_shots)
    usual = target.mean(0)
    solution = np.linalg.solve(design.T @ design + penalty, design.T @ (target - usual))
    weight = (solution[: features.shape[1]] / spread[:, None]).T
    return TorsoSway(weight, solution[features.shape[1] :] + usual - weight @ mean)
