"""Rotations as wxyz quaternions and 3x3 matrices.

Shapes: N Gaussians.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def multiply_quats(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton product, left after right.

    Args:
        left: [..., 4] wxyz.
        right: [..., 4] wxyz, broadcast against ``left``.
    """
    lw, lx, ly, lz = left.unbind(-1)
    rw, rx, ry, rz = right.unbind(-1)
    return torch.stack(
        [
            lw * rw - lx * rx - ly * ry - lz * rz,
            lw * rx + lx * rw + ly * rz - lz * ry,
            lw * ry - lx * rz + ly * rw + lz * rx,
            lw * rz + lx * ry - ly * rx + lz * rw,
        ],
        dim=-1,
    )


def quat_from_matrix(matrix: Tensor) -> Tensor:
    """Unit quaternions of rotation matrices, constants: there is no gradient.

    In plain numbers, because thirty operations on tensors of one element take longer than posing some thousand
    Gaussians.

    Args:
        matrix: [..., 3, 3].

    Returns:
        [..., 4] wxyz with the largest component positive; stable for every angle (Shepperd, 1978).
    """
    quats = [_quat_of(rows) for rows in matrix.reshape(-1, 3, 3).tolist()]
    return matrix.new_tensor(quats).view(*matrix.shape[:-2], 4)


def _quat_of(rows: list[list[float]]) -> list[float]:
    (a, b, c), (d, e, f), (g, h, i) = rows
    trace = a + e + i
    biggest = max(trace, a, e, i)
    if biggest == trace:
        quat = (1 + trace, h - f, c - g, d - b)
    elif biggest == a:
        quat = (h - f, 1 + 2 * a - trace, b + d, c + g)
    elif biggest == e:
        quat = (c - g, b + d, 1 + 2 * e - trace, f + h)
    else:
        quat = (d - b, c + g, f + h, 1 + 2 * i - trace)
    length = math.hypot(*quat)
    return [value / length for value in quat]
