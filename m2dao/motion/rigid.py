"""Rigid motion: the head pose carries head space into camera space.

Shapes: N Gaussians; ``...`` nothing, frames, or places in a stack of people.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m2dao.gaussians.rotations import multiply_quats, quat_from_matrix


def to_camera(means: Tensor, quats: Tensor, viewmat: Tensor, view_quat: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Carry Gaussians from head space into camera space.

    Args:
        means: [..., N, 3] metres.
        quats: [..., N, 4] wxyz.
        viewmat: [..., 4, 4] head space to camera.
        view_quat: [..., 4] its rotation, if known.
    """
    rotation = viewmat[..., :3, :3]
    view_quat = quat_from_matrix(rotation) if view_quat is None else view_quat
    moved = means @ rotation.transpose(-1, -2) + viewmat[..., None, :3, 3]
    return moved, multiply_quats(view_quat[..., None, :], quats)


def camera_center(viewmat: Tensor) -> Tensor:
    """Where the camera stands in head space: [..., 4, 4] -> [..., 3] metres."""
    return (-viewmat[..., :3, :3].transpose(-1, -2) @ viewmat[..., :3, 3:])[..., 0]


def invert_rigid(matrix: Tensor) -> Tensor:
    """Inverse of a rigid transform [..., 4, 4]."""
    rotation = matrix[..., :3, :3].transpose(-1, -2)
    upper = torch.cat([rotation, -rotation @ matrix[..., :3, 3:]], dim=-1)
    return torch.cat([upper, matrix[..., 3:, :]], dim=-2)
