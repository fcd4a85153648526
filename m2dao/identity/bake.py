"""An identity made ready for rendering on a CPU: everything that no frame changes is computed once.

A :class:`BakedHead` gives exactly what ``TalkingHead.pose`` gives, without gradients. Activated Gaussians and the static
features of the fields are kept, and what is left of a frame, apart from one matrix product for each group, is one pass of
a compiled kernel.
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
from m2dao.identity import posing_kernel
from m2dao.motion.rigid import camera_center
from m2dao.motion.talking_head import FrameDrive, TalkingHead
from m2dao.render.cpu_project import CHUNK
from m2dao.render.threads import share_out


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
        self._static = head.static_features()
        self._groups = {name: group.activate() for name, group in head.groups.items()}
        self._opacities = torch.cat([gaussians.opacities for gaussians in self._groups.values()])
        if head.torso is not None:
            torso = self._groups["torso"]
            self._torso_colors = sh_colors(torso.sh0, torso.shN, torso.means).numpy()
            self._follow = head.groups["torso"].raw["follow"].sigmoid().numpy()

    @property
    def num_bytes(self) -> int:
        """Memory taken beside the head's own parameters."""
        kept = [value for value in self._static if value is not None]
        kept += [value for gaussians in self._groups.values() for value in vars(gaussians).values()]
        return sum(value.numel() * value.element_size() for value in kept)

    @torch.no_grad()
    def pose(self, drive: FrameDrive, *, with_torso: bool = True) -> PosedArrays:
        """Move every Gaussian to where it is in one frame.

        Args:
            drive: sound, expression and pose of the frame.
            with_torso: False leaves the torso's Gaussians out.
        """
        head, static = self._head, self._static
        deltas = {"facial": head.facial_delta(drive, static), "oral": head.oral_delta(drive, static)}
        if with_torso and head.torso is not None:
            pose = head.torso.pose_features(drive.viewmat, drive.slow_viewmat)
            deltas["torso"] = head.torso.displace(static.torso, pose)
        num = sum(len(self._groups[name].means) for name in deltas)
        out = [np.empty((num, columns), np.float32) for columns in (3, 4, 3, 4)]
        first = 0
        for name, delta in deltas.items():
            gaussians = self._groups[name]
            part = [array[first : first + len(gaussians.means)] for array in out]
            rows = torch.cat(delta, dim=1).numpy()  # [N, 13]
            if name == "torso":
                self._pose_torso(gaussians, rows, drive, pose, part)
            else:
                _pose_head(gaussians, rows, drive.viewmat, part)
            first += len(gaussians.means)
        means, quats, scales, colors = (torch.from_numpy(array) for array in out)
        return PosedArrays(means, quats, scales, self._opacities[:num], colors)

    def _pose_torso(self, gaussians: Gaussians, delta: np.ndarray, drive: FrameDrive, pose: Tensor, out: list) -> None:
        torso = self._head.torso
        corners = torch.cat([torch.zeros(1, 3), torch.eye(3)])  # an affine map is known by what it does to these
        rigid = _affine(torso.rigid_displacement(corners, drive.viewmat))
        sway = _affine(torso.sway_displacement(corners, pose, drive.posture))
        share_out(
            posing_kernel.pose_torso, *_geometry(gaussians), self._torso_colors, self._follow, delta, rigid, sway, *out,
            max_threads=-(-len(delta) // CHUNK),
        )  # fmt: skip


def _pose_head(gaussians: Gaussians, delta: np.ndarray, viewmat: Tensor, out: list) -> None:
    share_out(
        posing_kernel.pose_head, *_geometry(gaussians), gaussians.sh0.numpy(), gaussians.shN.numpy(), delta,
        viewmat.numpy(), quat_from_matrix(viewmat[:3, :3]).numpy(), camera_center(viewmat).numpy(), *out,
        max_threads=-(-len(delta) // CHUNK),
    )  # fmt: skip


def _geometry(gaussians: Gaussians) -> tuple[np.ndarray, ...]:
    return gaussians.means.numpy(), gaussians.quats.numpy(), gaussians.scales.numpy()


def _affine(moved: Tensor) -> np.ndarray:
    """float32 [3, 4] of the affine map that takes the origin and the three unit vectors to the rows of ``moved`` [4, 3]."""
    return np.ascontiguousarray(torch.cat([(moved[1:] - moved[0]).T, moved[:1].T], dim=1).numpy())
