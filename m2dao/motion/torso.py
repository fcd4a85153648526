"""Torso and neck: generated from the head's motion, not pasted from the recording.

Torso Gaussians live in camera space at the reference pose. Each follows the head's rigid motion by its own skinning
weight: one at the top of the neck, none at the shoulders. What does not follow sways as one piece, by a linear function
of the pose. A field that is linear in the pose adds what is left: collars, skin and cloth.
Nothing here bends with the pose, because twelve numbers tell nearly every frame of a recording from every other: a
network of them would overfit the shoulders of the training part. The pose is seen twice, as it is and as its slow part,
because shoulders follow a head late.
Shapes: N Gaussians; ``...`` nothing, frames, or places in a stack of people.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from m2dao.motion.factored import FactoredField, FieldMotion
from m2dao.motion.linear import Linear, one_row
from m2dao.motion.poses import NUM_POSE_FEATURES
from m2dao.motion.rigid import invert_rigid

_SWAY_SCALE = 0.02  # metres for the shift, radians for roll and relative growth
NUM_SWAY = 4


class TorsoField(nn.Module):
    """Follows the head.

    Args:
        box_min, box_max: of the torso Gaussians in camera space, metres.
        reference_viewmat: [4, 4] the head pose at which torso Gaussians are canonical.
    """

    reference_viewmat: Tensor
    center: Tensor  # [3]
    posture: Tensor  # [4]

    def __init__(self, box_min: Tensor, box_max: Tensor, reference_viewmat: Tensor):
        super().__init__()
        self.register_buffer("reference_viewmat", reference_viewmat.float().clone())
        self.register_buffer("center", (box_min + box_max).float() / 2)
        self.sway = Linear(NUM_POSE_FEATURES, NUM_SWAY, bias=False)
        nn.init.zeros_(self.sway.weight)
        self.register_buffer("posture", torch.zeros(NUM_SWAY))  # how the shoulders rest, unless a frame says otherwise
        self.field = FactoredField(
            box_min,
            box_max,
            code_sizes=(NUM_POSE_FEATURES,),
            resolutions=(12, 32),
            num_features=4,
            hidden_size=32,
        )

    def rigid_displacement(self, means: Tensor, viewmat: Tensor) -> Tensor:
        """Where a Gaussian would go if it were fixed to the head: [..., N, 3] -> [..., N, 3] metres."""
        moved = viewmat @ invert_rigid(self.reference_viewmat)
        turned = moved[..., :3, :3] - torch.eye(3, device=means.device)
        return means @ turned.transpose(-1, -2) + moved[..., None, :3, 3]

    def sway_displacement(self, means: Tensor, pose: Tensor, posture: Tensor | None = None) -> Tensor:
        """How the shoulders move as one piece in the picture plane: shift, roll and growth.

        Args:
            means: [..., N, 3] metres.
            pose: [..., 12] of a :class:`FrameConditions`.
            posture: [..., 4] shift right and down (metres), roll and growth (radians) at rest; if None the identity's.

        Returns:
            [..., N, 3] metres.
        """
        rest = self.posture if posture is None else posture
        sway = rest + _SWAY_SCALE * one_row(self.sway, pose)
        right, down, roll, growth = sway[..., None, :].unbind(-1)
        x, y = (means[..., :2] - self.center[..., None, :2]).unbind(-1)
        moved_x = right + growth * x - roll * y
        moved_y = down + growth * y + roll * x
        return torch.stack([moved_x, moved_y, torch.zeros_like(moved_x)], dim=-1)

    @torch.no_grad()
    def set_sway(self, weight: Tensor, posture: Tensor) -> None:
        """Start from a measured sway [4, 12] (metres and radians by pose feature) and posture [4]."""
        self.sway.weight.copy_(weight / _SWAY_SCALE)
        self.posture.copy_(posture)

    def frame(self, pose: Tensor) -> Callable[[Tensor], FieldMotion]:
        """The non-rigid remainder of one frame, a function of what its ``static_features`` gave.

        Args:
            pose: [..., 12] of a :class:`FrameConditions`.
        """
        return self.field.frame((pose,))
