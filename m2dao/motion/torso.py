"""Torso and neck: generated from the head's motion, not pasted from the recording.

Torso Gaussians live in camera space at the reference pose. Each follows the head's rigid motion by its own weight (one
at the top of the neck, none at the shoulders) and a field of the pose adds what is left: breathing room for collars,
skin and cloth. The pose is seen twice, as it is and as its slow part, because shoulders follow a head late.
Shapes: N Gaussians.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from m2dao.motion.factored import FactoredField, MotionDelta
from m2dao.motion.rigid import invert_rigid, pose_difference

_POSE_SCALE = (5.0, 5.0, 5.0, 30.0, 30.0, 30.0)  # radians and metres to numbers of order one
_POSE_CODE_SIZE = 16


class TorsoField(nn.Module):
    """Follows the head.

    Args:
        box_min, box_max: of the torso Gaussians in camera space, metres.
        reference_viewmat: [4, 4] the head pose at which torso Gaussians are canonical.
    """

    def __init__(self, box_min: Tensor, box_max: Tensor, reference_viewmat: Tensor):
        super().__init__()
        self.register_buffer("reference_viewmat", reference_viewmat.float().clone())
        self.register_buffer("pose_scale", torch.tensor(_POSE_SCALE * 2), persistent=False)
        self.code = nn.Sequential(nn.Linear(12, 32), nn.SiLU(), nn.Linear(32, _POSE_CODE_SIZE), nn.Tanh())
        self.field = FactoredField(
            box_min, box_max, code_sizes=(12 + _POSE_CODE_SIZE,), resolutions=(12, 32), num_features=4, hidden_size=32
        )

    def static_features(self, means: Tensor) -> Tensor:
        """[N, 3] -> [N, H]."""
        return self.field.static_features(means)

    def rigid_displacement(self, means: Tensor, viewmat: Tensor) -> Tensor:
        """Where a Gaussian would go if it were fixed to the head: [N, 3] -> [N, 3] metres."""
        follow = viewmat @ invert_rigid(self.reference_viewmat)
        return means @ (follow[:3, :3] - torch.eye(3, device=means.device)).T + follow[:3, 3]

    def displace(self, features: Tensor, viewmat: Tensor, slow_viewmat: Tensor) -> MotionDelta:
        """The non-rigid remainder.

        Args:
            features: [N, H] from :meth:`static_features`.
            viewmat: [4, 4] head pose of the frame.
            slow_viewmat: [4, 4] the same, low-passed over about a second.
        """
        pose = torch.cat(
            [
                pose_difference(viewmat, self.reference_viewmat),
                pose_difference(slow_viewmat, self.reference_viewmat),
            ]
        )
        pose = pose * self.pose_scale
        return self.field.displace(features, (torch.cat([pose, self.code(pose)]),))
