"""Frames that seeds are taken from, and the pinhole between pixels and points.

Shapes: H x W pixels, N points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NEAREST_M = 1e-3  # what lies nearer than that is in no picture


@dataclass(frozen=True, kw_only=True)
class SeedView:
    """One frame seeds are taken from."""

    rgb: np.ndarray  # [H, W, 3] float 0..1
    masks: np.ndarray  # [H, W, 4] float 0..1: facial, oral, head, torso
    viewmat: np.ndarray  # [4, 4] head space to camera


def unproject(pixels: np.ndarray, depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Pixels [N, 2] at depths [N] to camera space [N, 3]."""
    return np.stack(
        [(pixels[:, 0] - K[0, 2]) * depth / K[0, 0], (pixels[:, 1] - K[1, 2]) * depth / K[1, 1], depth], axis=-1
    )


def project(points: np.ndarray, viewmat: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Points [N, 3] of head space to pixels [N, 2]."""
    x, y, z = (points[:, 0] * row[0] + points[:, 1] * row[1] + points[:, 2] * row[2] + row[3] for row in viewmat[:3])
    z = np.maximum(z, _NEAREST_M)
    return np.stack([K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]], axis=-1)
