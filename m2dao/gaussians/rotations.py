"""Rotations as wxyz quaternions and 3x3 matrices.

Shapes: N Gaussians.
"""

from __future__ import annotations

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
    """Unit quaternion of one rotation matrix.

    Args:
        matrix: [3, 3].

    Returns:
        [4] wxyz with the largest component positive; stable for every angle (Shepperd, 1978).
    """
    m = matrix
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    squares = torch.stack([trace, m[0, 0], m[1, 1], m[2, 2]])
    biggest = int(squares.argmax())
    if biggest == 0:
        q = torch.stack([1 + trace, m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])
    elif biggest == 1:
        q = torch.stack([m[2, 1] - m[1, 2], 1 + 2 * m[0, 0] - trace, m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]])
    elif biggest == 2:
        q = torch.stack([m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], 1 + 2 * m[1, 1] - trace, m[1, 2] + m[2, 1]])
    else:
        q = torch.stack([m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 + 2 * m[2, 2] - trace])
    return q / q.norm()
