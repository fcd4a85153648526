"""Tri-plane features: three small feature images, one for each pair of axes.

A point is projected onto the planes xy, yz and xz and each plane is read bilinearly (Chan et al., EG3D, section 3). The
tables of this field are so small that hashing would never happen, so the grids are dense.
Shapes: N points, R cells a side, F features a plane and level.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_PLANE_AXES = (slice(0, 2), slice(1, 3), slice(0, 3, 2))  # no lists: a GPU would wait for their numbers


class TriPlane(nn.Module):
    """Multi-resolution tri-plane over an axis-aligned box; points outside read the border.

    Args:
        box_min, box_max: corners of the box, metres, 3 numbers each.
        resolutions: cells a side for each level.
        num_features: features a plane and level.
    """

    box_min: Tensor  # [3]
    box_max: Tensor  # [3]

    def __init__(self, box_min: Tensor, box_max: Tensor, resolutions: tuple[int, ...], num_features: int):
        super().__init__()
        self.register_buffer("box_min", torch.as_tensor(box_min, dtype=torch.float32).clone())
        self.register_buffer("box_max", torch.as_tensor(box_max, dtype=torch.float32).clone())
        self.planes = nn.ParameterList(
            [nn.Parameter(0.1 * torch.randn(3, num_features, size, size)) for size in resolutions]
        )
        self.num_outputs = 3 * num_features * len(resolutions)

    def forward(self, means: Tensor) -> Tensor:
        """Features of the points.

        Args:
            means: [N, 3] metres.

        Returns:
            [N, 3 F levels].
        """
        unit = 2 * (means - self.box_min) / (self.box_max - self.box_min) - 1  # [N, 3] in -1..1 inside the box
        grid = torch.stack([unit[:, axes] for axes in _PLANE_AXES])[:, None]  # [3, 1, N, 2]
        levels = [
            nn.functional.grid_sample(plane, grid, mode="bilinear", padding_mode="border", align_corners=True)
            for plane in self.planes
        ]  # each [3, F, 1, N]
        return torch.cat([level[:, :, 0].flatten(0, 1) for level in levels]).T
