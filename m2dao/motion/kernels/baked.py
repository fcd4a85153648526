"""An identity made ready for rendering on a CPU: everything that no frame changes is computed once.

A :class:`BakedHead` gives exactly what ``TalkingHead.pose`` gives, without gradients. Activated Gaussians and the static
features of the fields are kept, and what is left of a frame are some small matrices and one pass of a compiled kernel.
Shapes: N Gaussians of all groups.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from m2dao.gaussians.params import Gaussians
from m2dao.gaussians.rotations import quat_from_matrix
from m2dao.gaussians.sh import sh_colors
from m2dao.motion.kernels import posing_kernel
from m2dao.motion.kernels.moving import add_up, affine_of, share_gaussians
from m2dao.motion.rigid import camera_center
from m2dao.motion.talking_head import FrameDrive, TalkingHead


class PosedArrays(NamedTuple):
    """Gaussians of one frame in camera space: the first five fields of ``PosedGaussians``."""

    means: Tensor  # [N, 3]
    quats: Tensor  # [N, 4]
    scales: Tensor  # [N, 3]
    opacities: Tensor  # [N]
    colors: Tensor  # [N, 4]


class BakedHead:
    """A talking head that no longer learns.

    Args:
        head: on the CPU; must not change afterwards.
    """

    @torch.no_grad()
    def __init__(self, head: TalkingHead):
        self._head = head
        self._groups = {name: group.activate() for name, group in head.groups.items()}
        self._opacities = torch.cat([gaussians.opacities for gaussians in self._groups.values()])
        self._static = head.static_features()
        if head.torso is not None:
            torso = self._groups["torso"]
            self._torso_colors = sh_colors(torso.sh0, torso.shN, torso.means).numpy()
            self._follow = head.groups["torso"].raw["follow"].sigmoid().numpy()

    @property
    def num_bytes(self) -> int:
        """Memory taken beside the head's own parameters."""
        kept = [value for gaussians in self._groups.values() for value in vars(gaussians).values()]
        kept += [value for value in self._static if value is not None]
        return sum(value.nbytes for value in kept)

    @torch.no_grad()
    def pose(self, drive: FrameDrive) -> PosedArrays:
        """Move every Gaussian to where it is in one frame.

        Args:
            drive: sound, expression and pose of the frame.
        """
        if self._head.torso is not None:
            drive = drive._replace(torso_pose=self._head.torso_pose(drive))
        out = [np.empty((len(self._opacities), columns), np.float32) for columns in (3, 4, 3, 4)]
        viewmat = drive.viewmat
        view = viewmat.numpy(), quat_from_matrix(viewmat[:3, :3]).numpy(), camera_center(viewmat).numpy()
        first = 0
        for name, motions in self._head.motions(drive, self._static).items():
            gaussians, delta = self._groups[name], add_up(motions).numpy()
            part = [array[first : first + len(gaussians.means)] for array in out]
            if name == "torso":
                self._pose_torso(gaussians, delta, drive, part)
            else:
                _pose_head(gaussians, delta, view, part)
            first += len(gaussians.means)
        means, quats, scales, colors = (torch.from_numpy(array) for array in out)
        return PosedArrays(means, quats, scales, self._opacities, colors)

    def _pose_torso(self, gaussians: Gaussians, delta: np.ndarray, drive: FrameDrive, out: list) -> None:
        torso = self._head.torso
        rigid = affine_of(lambda points: torso.rigid_displacement(points, drive.viewmat)).numpy()
        sway = affine_of(lambda points: torso.sway_displacement(points, drive.torso_pose, drive.posture)).numpy()
        share_gaussians(
            posing_kernel.pose_torso,
            len(gaussians.means),
            *_geometry(gaussians),
            self._torso_colors,
            self._follow,
            delta,
            rigid,
            sway,
            *out,
        )


def _pose_head(gaussians: Gaussians, delta: np.ndarray, view: tuple[np.ndarray, ...], out: list) -> None:
    share_gaussians(
        posing_kernel.pose_head,
        len(gaussians.means),
        *_geometry(gaussians),
        gaussians.sh0.numpy(),
        gaussians.shN.numpy(),
        delta,
        *view,
        *out,
    )


def _geometry(gaussians: Gaussians) -> tuple[np.ndarray, ...]:
    return gaussians.means.numpy(), gaussians.quats.numpy(), gaussians.scales.numpy()
