"""How the shoulders move with the head, measured on the recording before the fit.

Points on the torso are followed from the reference frame through the training part; each frame's similarity transform
(shift, roll, growth) is then explained by the head's pose, linearly and with a ridge, so that poses outside the training
part still give a sensible torso.
Shapes: T frames, S pixels a side.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from m2dao.motion.talking_head import TalkingHead
from m2dao.training.frames import TrainingFrames

_MAX_POINTS = 200
_MIN_POINTS = 12
_EVERY = 2  # frames: neighbours say nearly the same
_RIDGE = 3.0  # in frames of evidence against each standardised pose feature
_SURE = 0.98


def measure_torso_sway(
    head: TalkingHead, frames: TrainingFrames, reference: int, features: np.ndarray, K: np.ndarray
) -> bool:
    """Set the torso's sway to what the recording shows.

    Args:
        head: the model; its torso is updated.
        frames: of the training part.
        reference: frame at which the torso is canonical.
        features: [T, 12] pose features of the training part.
        K: [3, 3] for the frames' size.

    Returns:
        False where the torso has too little texture to follow; its sway then starts at zero.
    """
    motions, indices = _follow(frames, reference)
    if len(indices) < 4 * features.shape[1]:
        return False
    depth = float(head.groups["torso"].raw["means"][:, 2].detach().mean())
    center = head.torso.center.numpy()
    pixel = (K @ (center / center[2]))[:2]
    # From transforms of the picture, x -> A x + b, to shift at the torso's centre in metres, roll and growth.
    shift = np.einsum("tij,j->ti", motions[:, :, :2], pixel) + motions[:, :, 2] - pixel
    measured = np.concatenate(
        [shift * depth / K[0, 0], motions[:, 1, :1], (motions[:, 0, :1] - 1)], axis=1
    )  # [T, 4]
    weight, bias = _ridge(features[indices], measured)
    head.torso.set_sway(torch.from_numpy(weight).float(), torch.from_numpy(bias).float())
    return True


def _follow(frames: TrainingFrames, reference: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarity transforms [T', 2, 3] from the reference frame to others, and those frames' numbers [T']."""
    first = cv2.cvtColor(frames.rgb(reference), cv2.COLOR_RGB2GRAY)
    mask = (frames.masks(reference)[..., 3] > _SURE).astype(np.uint8)
    points = cv2.goodFeaturesToTrack(first, _MAX_POINTS, 0.01, 4, mask=mask)
    motions, indices = [], []
    if points is None or len(points) < _MIN_POINTS:
        return np.zeros((0, 2, 3)), np.zeros(0, int)
    for direction in (range(reference, frames.indices.stop, _EVERY), range(reference, -1, -_EVERY)):
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


def _ridge(features: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [4, 12] and bias [4] of a ridge regression on standardised features."""
    mean, spread = features.mean(0), features.std(0) + 1e-6
    standard = (features - mean) / spread
    gram = standard.T @ standard + _RIDGE * np.eye(features.shape[1])
    weight = np.linalg.solve(gram, standard.T @ (target - target.mean(0))).T / spread
    return weight, target.mean(0) - weight @ mean
