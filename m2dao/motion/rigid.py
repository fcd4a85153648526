"""Rigid motion: the head pose carries head space into camera space.

Shapes: N Gaussians.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m2dao.gaussians.rotations import multiply_quats, quat_from_matrix


def to_camera(means: Tensor, quats: Tensor, viewmat: Tensor, view_quat: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Carry Gaussians from head space into camera space.

    Args:
        means: [N, 3] metres.
        quats: [N, 4] wxyz.
        viewmat: [4, 4] head space to camera.
        view_quat: [4] its rotation, if known.
    """
    rotation = viewmat[:3, :3]
    view_quat = quat_from_matrix(rotation) if view_quat is None else view_quat
    return means @ rotation.T + viewmat[:3, 3], multiply_quats(view_quat, quats)


def camera_center(viewmat: Tensor) -> Tensor:
    """Where the camera stands in head space: [4, 4] -> [3] metres."""
    return -viewmat[:3, :3].T @ viewmat[:3, 3]


def invert_rigid(matrix: Tensor) -> Tensor:
    """Inverse of a rigid transform [4, 4]."""
    rotation = matrix[:3, :3].T
    return torch.cat([torch.cat([rotation, (-rotation @ matrix[:3, 3])[:, None]], dim=1), matrix[3:]])
