"""Makes a talking head ready for a CPU: what no frame changes is computed once.

A :class:`BakedHead` gives exactly what ``TalkingHead.pose`` gives, without gradients. It keeps activated Gaussians and
the static features of the fields. What is left of a frame are some small matrices and one pass of a compiled kernel.
Shapes: N Gaussians of all groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m2dao.gaussians.sh import sh_colors
from m2dao.motion.kernels.moving import add_up, within_limits
from m2dao.motion.kernels.posing import TorsoMotion, pose_groups, torso_affines, view_of
from m2dao.motion.talking_head import FrameConditions, TalkingHead


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
            self._skinning = head.groups["torso"].raw["follow"].sigmoid().numpy()

    @property
    def num_bytes(self) -> int:
        """Memory taken beside the head's own parameters."""
        kept = [value for gaussians in self._groups.values() for value in vars(gaussians).values()]
        return sum(value.nbytes for value in (*kept, *self._static.values()))

    @torch.no_grad()
    def pose(self, conditions: FrameConditions) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Move every Gaussian to where it is in one frame.

        Args:
            conditions: sound, expression and pose of the frame.

        Returns:
            The first five fields of ``PosedGaussians``.
        """
        torso = None
        if self._head.torso is not None:
            rigid, sway = torso_affines(self._head, conditions)
            torso = TorsoMotion(self._torso_colors, self._skinning, rigid.numpy(), sway.numpy())
        deltas = [within_limits(add_up(motions)) for motions in self._head.motions(conditions, self._static).values()]
        means, quats, scales, colors = pose_groups(list(self._groups.values()), deltas, view_of(conditions), torso)
        return means, quats, scales, self._opacities, colors
