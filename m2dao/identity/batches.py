"""Several frames posed at once in plain PyTorch: what a GPU wants, and what the kernels of ``bake.py`` are compared with.

Shapes: B frames, N Gaussians of all groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m2dao.gaussians.rotations import quat_from_matrix
from m2dao.motion.talking_head import FrameDrive, TalkingHead
from m2dao.motion.torso import pose_features


class BatchedHead:
    """A talking head that no longer learns.

    Args:
        head: the model, on the device that renders.
        reference_viewmat: [4, 4] the pose at which its torso is canonical, on the CPU.
    """

    def __init__(self, head: TalkingHead, reference_viewmat: Tensor):
        self._head, self._reference = head, reference_viewmat
        self._device = head.head_box.device
        with torch.no_grad():
            self._static = head.static_features()  # constant for the life of the talker

    @property
    def num_bytes(self) -> int:
        """Memory taken beside the head's own parameters."""
        return sum(value.numel() * value.element_size() for value in self._static if value is not None)

    @torch.no_grad()
    def pose(self, drives: list[FrameDrive]) -> tuple[Tensor, ...]:
        """Means, quaternions, scales, opacities and colours in camera space, each [B, N, ...].

        Args:
            drives: of the frames, on the CPU.
        """
        # What a GPU would be asked for number by number is computed before it gets anything.
        ready = [
            drive._replace(
                view_quat=quat_from_matrix(drive.viewmat[:3, :3]),
                torso_pose=pose_features(drive.viewmat, drive.slow_viewmat, self._reference),
            )
            for drive in drives
        ]
        together = FrameDrive(*(None if values[0] is None else torch.stack(values) for values in zip(*ready, strict=True)))
        dimensions = FrameDrive(*(None if value is None else 0 for value in together))
        return torch.vmap(self._pose_one, in_dims=(dimensions,))(together.to(self._device))

    def _pose_one(self, drive: FrameDrive) -> tuple[Tensor, ...]:
        return tuple(self._head.pose(drive, self._static)[:5])
