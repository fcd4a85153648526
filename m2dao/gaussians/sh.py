"""Colours that depend on the viewing direction, as real spherical harmonics up to degree 2.

The basis is the usual real one (Condon-Shortley signs as in the splatting literature); colour = 0.5 + sum.
Shapes: N Gaussians, B basis functions = (degree + 1)^2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

C0 = 0.5 / math.sqrt(math.pi)
C1 = math.sqrt(3 / (4 * math.pi))
C2 = (
    math.sqrt(15 / (4 * math.pi)),
    math.sqrt(5 / (16 * math.pi)),
    math.sqrt(15 / (16 * math.pi)),
)
NUM_BASES = {0: 1, 1: 4, 2: 9}  # by degree


def sh0_from_rgb(rgb: Tensor) -> Tensor:
    """Constant coefficient that shows ``rgb`` (0..1) from every side."""
    return (rgb - 0.5) / C0


def sh_colors(sh0: Tensor, shN: Tensor, directions: Tensor) -> Tensor:
    """Evaluate colours.

    Args:
        sh0: [..., N, 3] constant coefficients.
        shN: [..., N, B - 1, 3] the others; B - 1 is 0, 3 or 8.
        directions: [..., N, 3] from the camera to the Gaussian, unit length; leading dimensions broadcast.

    Returns:
        [..., N, 3], clamped to be non-negative.
    """
    colors = 0.5 + C0 * sh0
    if shN.shape[-2]:
        x, y, z = directions.unbind(-1)
        bases = [-C1 * y, C1 * z, -C1 * x]
        if shN.shape[-2] == 8:
            bases += [
                C2[0] * x * y,
                -C2[0] * y * z,
                C2[1] * (3 * z * z - 1),
                -C2[0] * x * z,
                C2[2] * (x * x - y * y),
            ]
        colors = colors + (torch.stack(bases, dim=-1)[..., None] * shN).sum(dim=-2)
    return colors.clamp_min(0.0)
