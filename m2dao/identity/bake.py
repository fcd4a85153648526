"""An identity made ready for rendering on a CPU: everything that no frame changes is computed once.

A :class:`BakedHead` gives exactly what ``TalkingHead.pose`` gives, without gradients. Activated Gaussians and the static
features of the fields are kept, and what is left of a frame are some small matrices and one pass of a compiled kernel.
Shapes: N Gaussians of all groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from m2dao.gaussians.params import Gaussians
from m2dao.gaussians.rotations import quat_from_matrix
from m2dao.gaussians.sh import sh_colors
from m2dao.identity import posing_kernel
from m2dao.motion.factored import NUM_OUTPUTS
from m2dao.motion.rigid import camera_center
from m2dao.motion.talking_head import TAG_LIPS, FrameDrive, TalkingHead
from m2dao.render.cpu_project import CHUNK
from m2dao.render.threads import share_out


class PosedArrays(NamedTuple):
    """Gaussians of one frame in camera space: the first five fields of ``PosedGaussians``."""

    means: Tensor  # [N, 3]
    quats: Tensor  # [N, 4]
    scales: Tensor  # [N, 3]
    opacities: Tensor  # [N]
    colors: Tensor  # [N, 4]


class _Motion(NamedTuple):
    """What moves one group in one frame: static features times the frame's matrix."""

    features: np.ndarray  # float32 [N * K]
    matrix: np.ndarray  # float32 [K * 16]


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
        self._make_motion = (_FactoredMotion if head.config.field == "factored" else _GeneralMotion)(head)
        if head.torso is not None:
            torso = self._groups["torso"]
            self._torso_colors = sh_colors(torso.sh0, torso.shN, torso.means).numpy()
            self._follow = head.groups["torso"].raw["follow"].sigmoid().numpy()

    @property
    def num_bytes(self) -> int:
        """Memory taken beside the head's own parameters."""
        kept = [value for gaussians in self._groups.values() for value in vars(gaussians).values()]
        return sum(value.numel() * value.element_size() for value in kept) + self._make_motion.num_bytes

    @torch.no_grad()
    def pose(self, drive: FrameDrive) -> PosedArrays:
        """Move every Gaussian to where it is in one frame.

        Args:
            drive: sound, expression and pose of the frame.
        """
        torso = self._head.torso
        pose = None if torso is None else torso.pose_features(drive.viewmat, drive.slow_viewmat)
        motions = self._make_motion(drive, pose)
        out = [np.empty((len(self._opacities), columns), np.float32) for columns in (3, 4, 3, 4)]
        first = 0
        for name, motion in motions.items():
            gaussians = self._groups[name]
            part = [array[first : first + len(gaussians.means)] for array in out]
            if name == "torso":
                self._pose_torso(gaussians, motion, drive, pose, part)
            else:
                _pose_head(gaussians, motion, drive.viewmat, part)
            first += len(gaussians.means)
        means, quats, scales, colors = (torch.from_numpy(array) for array in out)
        return PosedArrays(means, quats, scales, self._opacities, colors)

    def _pose_torso(self, gaussians: Gaussians, motion: _Motion, drive: FrameDrive, pose: Tensor, out: list) -> None:
        torso = self._head.torso
        rigid = affine_of(lambda points: torso.rigid_displacement(points, drive.viewmat)).numpy()
        sway = affine_of(lambda points: torso.sway_displacement(points, pose, drive.posture)).numpy()
        share_gaussians(
            posing_kernel.pose_torso, len(gaussians.means), *_geometry(gaussians), self._torso_colors, self._follow, *motion,
            rigid, sway, *out,
        )  # fmt: skip


class _FactoredMotion:
    """Motion of factored fields: their static features are constant, and lips are carried by the face in the same product."""

    def __init__(self, head: TalkingHead):
        self._head = head
        static = head.static_features()
        is_lip = (head.groups["oral"].tags == TAG_LIPS).float()[:, None]
        self._features = {"facial": flat_rows(static.facial)}
        self._features["oral"] = flat_rows(torch.cat([static.oral, is_lip * static.facial_of_oral], dim=1))
        if head.torso is not None:
            self._features["torso"] = flat_rows(static.torso)
        self._probes = static.facial_of_probes
        self.num_bytes = sum(array.nbytes for array in self._features.values())

    def __call__(self, drive: FrameDrive, pose: Tensor | None) -> dict[str, _Motion]:
        """By group; pose is the torso's [12], None if there is none."""
        head = self._head
        face = head.facial.field.frame_matrix(head.facial_codes(drive))
        lips = head.oral.motion_code(self._probes @ face[:, :3])
        if not head.config.mouth_sees_face:
            lips = torch.zeros_like(lips)
        mouth = head.oral.field.frame_matrix((head.oral.audio_code(drive.audio), lips))
        matrices = {"facial": face, "oral": torch.cat([mouth, face])}
        if pose is not None:
            matrices["torso"] = head.torso.field.frame_matrix((pose,))
        return {name: _Motion(self._features[name], padded_matrix(matrix)) for name, matrix in matrices.items()}


class _GeneralMotion:
    """Motion of any field, computed by the field in every frame."""

    num_bytes = 0

    def __init__(self, head: TalkingHead):
        self._head, self._static = head, head.static_features()

    def __call__(self, drive: FrameDrive, pose: Tensor | None) -> dict[str, _Motion]:
        motions = self._head.motions(drive, self._static)
        return {name: _Motion(flat_rows(motion.features), padded_matrix(motion.matrix)) for name, motion in motions.items()}


def flat_rows(rows: Tensor) -> np.ndarray:
    """[N, K] -> [N * K], as the kernels want features."""
    return rows.detach().contiguous().view(-1).numpy()


def padded_matrix(matrix: Tensor) -> np.ndarray:
    """[K, 13] -> [K * 16], as the kernels want a frame's matrix."""
    padded = np.zeros((len(matrix), posing_kernel.NUM_COLUMNS), np.float32)
    padded[:, :NUM_OUTPUTS] = matrix.detach().numpy()
    return padded.reshape(-1)


def share_gaussians(kernel: Callable, num_gaussians: int, *args) -> None:
    """Run a kernel that takes Gaussians chunk by chunk, on no more threads than there are chunks."""
    share_out(kernel, *args, max_threads=-(-num_gaussians // CHUNK))


def affine_of(displace: Callable[[Tensor], Tensor]) -> Tensor:
    """The matrix [3, 4] of an affine map of points [P, 3], which is known by what it does to the origin and unit vectors."""
    moved = displace(torch.cat([torch.zeros(1, 3), torch.eye(3)]))
    return torch.cat([(moved[1:] - moved[0]).T, moved[:1].T], dim=1)


def _pose_head(gaussians: Gaussians, motion: _Motion, viewmat: Tensor, out: list) -> None:
    share_gaussians(
        posing_kernel.pose_head, len(gaussians.means), *_geometry(gaussians), gaussians.sh0.numpy(), gaussians.shN.numpy(),
        *motion, viewmat.numpy(), quat_from_matrix(viewmat[:3, :3]).numpy(), camera_center(viewmat).numpy(), *out,
    )  # fmt: skip


def _geometry(gaussians: Gaussians) -> tuple[np.ndarray, ...]:
    return gaussians.means.numpy(), gaussians.quats.numpy(), gaussians.scales.numpy()
