"""Head poses as six numbers relative to a reference: what is stored, blended and synthesised.

Shapes: T frames.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation
from torch import Tensor

from m2dao.timeline import FRAME_RATE

_SLOW_S = 0.5  # standard deviation of the low-pass that shoulders follow
NUM_POSE_FEATURES = 12
_FEATURE_SCALE = np.array([5.0, 5.0, 5.0, 30.0, 30.0, 30.0], np.float32)  # radians and metres to numbers of order one
POSE_WEIGHTS = np.array([40.0, 40.0, 40.0, 60.0, 60.0, 60.0])  # radians and metres to comparable numbers


def pose_differences(viewmats: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Rotation vectors (radians) and translations (metres) relative to a reference pose.

    Args:
        viewmats: [T, 4, 4] head space to camera.
        reference: [4, 4].

    Returns:
        [T, 6] float32.
    """
    relative = viewmats[:, :3, :3] @ reference[:3, :3].T
    vectors = Rotation.from_matrix(relative).as_rotvec()
    return np.concatenate([vectors, viewmats[:, :3, 3] - reference[:3, 3]], axis=1).astype(np.float32)


def viewmat_from_difference(difference: np.ndarray, reference: Tensor) -> Tensor:
    """The inverse of :func:`pose_differences`: [..., 6], [4, 4] -> [..., 4, 4] float32."""
    out = torch.eye(4).repeat(*difference.shape[:-1], 1, 1)
    rotation = torch.from_numpy(Rotation.from_rotvec(difference[..., :3]).as_matrix()).float()
    out[..., :3, :3] = rotation @ reference[:3, :3]
    out[..., :3, 3] = reference[:3, 3] + torch.from_numpy(np.asarray(difference[..., 3:], np.float32))
    return out


def pose_features(poses: np.ndarray, slow_poses: np.ndarray) -> Tensor:
    """What fields know of poses and their slow part, of order one: two of [..., 6] -> [..., 12]."""
    return torch.from_numpy(np.concatenate([poses * _FEATURE_SCALE, slow_poses * _FEATURE_SCALE], axis=-1)).float()


def slow_differences(differences: np.ndarray, shots: np.ndarray) -> np.ndarray:
    """Low-passed poses [T, 6], each shot for itself; `shots` [T] numbers them, rising from 0."""
    slow = np.empty_like(differences, dtype=np.float32)
    for shot in range(shots[-1] + 1):
        part = shots == shot
        slow[part] = gaussian_filter1d(differences[part], _SLOW_S * FRAME_RATE, axis=0, mode="nearest")
    return slow
