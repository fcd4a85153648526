"""``TalkingHead.pose`` by kernels, without gradients: what rendering and training share.

Shapes: N Gaussians of all groups, n of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from m2dao.gaussians.params import Gaussians
from m2dao.gaussians.rotations import quat_from_matrix
from m2dao.motion.kernels import posing_kernel
from m2dao.motion.kernels.moving import affine_of, share_gaussians
from m2dao.motion.rigid import camera_center
from m2dao.motion.talking_head import FrameConditions, TalkingHead


class View(NamedTuple):
    """Where the head is seen from."""

    viewmat: np.ndarray  # float32 [4, 4]
    quat: np.ndarray  # float32 [4]
    camera: np.ndarray  # float32 [3]


class TorsoMotion(NamedTuple):
    """How the torso's Gaussians move, but for what its field adds."""

    colors: np.ndarray  # float32 [n, 3] they keep their direction to the camera, so they keep their colours
    skinning: np.ndarray  # float32 [n] weight of the head's motion
    rigid: np.ndarray  # float32 [3, 4] what the head's motion since the reference adds to a position
    sway: np.ndarray  # float32 [3, 4] what the sway adds to it


def view_of(conditions: FrameConditions) -> View:
    """Where the head of a frame is seen from."""
    viewmat, quat = conditions.viewmat, conditions.view_quat
    quat = quat_from_matrix(viewmat[:3, :3]) if quat is None else quat
    return View(viewmat.numpy(), quat.numpy(), camera_center(viewmat).numpy())


def torso_affines(head: TalkingHead, conditions: FrameConditions) -> tuple[Tensor, Tensor]:
    """``rigid`` and ``sway`` of :class:`TorsoMotion`, [3, 4] each; the second carries gradients."""
    torso = head.torso
    assert torso is not None
    rigid = affine_of(lambda points: torso.rigid_displacement(points, conditions.viewmat))
    return rigid, affine_of(lambda points: torso.sway_displacement(points, conditions.pose, conditions.posture))


def pose_groups(
    groups: Sequence[Gaussians],
    deltas: Sequence[Tensor],  # [n, 16] motion of each group, three columns of nothing
    view: View,
    torso: TorsoMotion | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means [N, 3], quaternions [N, 4], scales [N, 3] and colours [N, 4] in camera space.

    Args:
        groups: without a graph; the last is the torso where there is one.
        deltas: from :func:`m2dao.motion.kernels.moving.add_up`.
        view: of the head.
        torso: its motion; None where there is no torso.
    """
    sizes = [len(group.means) for group in groups]
    means, quats, scales, colors = (torch.empty(sum(sizes), num_columns) for num_columns in (3, 4, 3, 4))
    parts = zip(*(values.split(sizes) for values in (means, quats, scales, colors)), strict=True)
    for number, (group, delta, part) in enumerate(zip(groups, deltas, parts, strict=True)):
        geometry = group.means.numpy(), group.quats.numpy(), group.scales.numpy()
        written = [values.numpy() for values in part]
        if torso is not None and number == len(groups) - 1:
            args = *geometry, torso.colors, torso.skinning, delta.numpy(), torso.rigid, torso.sway, *written
            share_gaussians(posing_kernel.pose_torso, sizes[number], *args)
        else:
            args = *geometry, group.sh0.numpy(), group.shN.numpy(), delta.numpy(), *view, *written
            share_gaussians(posing_kernel.pose_head, sizes[number], *args)
    return means, quats, scales, colors
