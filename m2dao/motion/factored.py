"""A deformation field that factors into a static and a moving part.

    d(x, c) = h(x) · W c,        h(x) = MLP(tri-plane(x))

Canonical Gaussians do not move, so ``h`` is computed once for an identity (and once a step in training, whatever the
number of frames); a frame costs one [N, H] x [H, 13] product. The field is linear in the motion code ``c``, like
blendshapes, and the code may be any non-linear function of sound and expression. ``W`` starts at zero, so an untrained
field is the identity.
Shapes: N Gaussians, H hidden features, K code entries.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from m2dao.motion.triplane import TriPlane

_OUTPUT_SCALES = (1e-2,) * 3 + (0.1,) * 4 + (0.2,) * 3 + (0.2,) * 3  # metres, quaternion, log scale, colour
_NUM_OUTPUTS = len(_OUTPUT_SCALES)


class MotionDelta(NamedTuple):
    """What a field adds to canonical Gaussians."""

    d_means: Tensor  # [N, 3] metres
    d_quats: Tensor  # [N, 4] added before normalisation
    d_scales: Tensor  # [N, 3] added to log scales
    d_colors: Tensor  # [N, 3] added to RGB

    def __add__(self, other: MotionDelta) -> MotionDelta:
        return MotionDelta(*(a + b for a, b in zip(self, other, strict=True)))


class FactoredField(nn.Module):
    """Static features of points times a per-frame matrix.

    Args:
        box_min, box_max: where the field lives, metres.
        code_size: K.
        resolutions, num_features: of the tri-plane.
        hidden_size: H.
    """

    def __init__(
        self,
        box_min: Tensor,
        box_max: Tensor,
        *,
        code_size: int,
        resolutions: tuple[int, ...] = (16, 48),
        num_features: int = 6,
        hidden_size: int = 48,
    ):
        super().__init__()
        self.triplane = TriPlane(box_min, box_max, resolutions, num_features)
        self.mlp = nn.Sequential(
            nn.Linear(self.triplane.num_outputs, hidden_size),
            nn.SiLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.SiLU(),
        )
        self.weight = nn.Parameter(torch.zeros(code_size, hidden_size, _NUM_OUTPUTS))
        self.register_buffer("output_scales", torch.tensor(_OUTPUT_SCALES), persistent=False)

    def static_features(self, means: Tensor) -> Tensor:
        """h(x): [N, 3] -> [N, H]."""
        return self.mlp(self.triplane(means))

    def displace(self, features: Tensor, code: Tensor) -> MotionDelta:
        """The motion of one frame.

        Args:
            features: [N, H] from :meth:`static_features`.
            code: [K].
        """
        matrix = torch.tensordot(code, self.weight, dims=1) * self.output_scales  # [H, 13]
        out = features @ matrix
        return MotionDelta(out[:, :3], out[:, 3:7], out[:, 7:10], out[:, 10:13])
