"""``FieldMotion`` by kernels: what fields do to the Gaussians of one group in one frame.

Shapes: N Gaussians, H hidden features, G code groups.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from m2dao.kernels.threads import CHUNK, share_out
from m2dao.motion.factored import MAX_D_SCALE, NUM_OUTPUTS, SCALE_COLUMNS, FieldMotion
from m2dao.motion.kernels import motion_kernel
from m2dao.motion.kernels.motion_kernel import NUM_COLUMNS


def add_up(motions: tuple[FieldMotion, ...]) -> Tensor:
    """The sum of motions of the same Gaussians, [N, 16]: 13 columns and three zeros; no gradients."""
    out = torch.empty(len(motions[0].features), NUM_COLUMNS)
    for number, motion in enumerate(motions):
        if motion.matrix is None:
            whole = torch.nn.functional.pad(motion.features.detach(), (0, NUM_COLUMNS - NUM_OUTPUTS))
            out = out + whole if number else whole
        else:
            num_groups, num_hidden, _ = motion.matrix.shape
            share_gaussians(
                motion_kernel.move,
                len(out),
                flat(motion.features),
                flat(padded(motion.matrix)),
                num_hidden,
                num_groups,
                number > 0,
                flat(out),
            )
    return out


def within_limits(motion: Tensor) -> Tensor:
    """A sum of motions [N, 16] whose log scales go no further than those of ``sum_motions``."""
    first, last = SCALE_COLUMNS.start, SCALE_COLUMNS.stop
    scales = motion[:, SCALE_COLUMNS].clamp(-MAX_D_SCALE, MAX_D_SCALE)
    return torch.cat([motion[:, :first], scales, motion[:, last:]], dim=1)


def padded(matrix: Tensor) -> Tensor:
    """[G, H, 13] -> [G, H, 16], as the kernels want a frame's matrix."""
    return torch.nn.functional.pad(matrix, (0, NUM_COLUMNS - NUM_OUTPUTS))


def flat(values: Tensor) -> np.ndarray:
    """All values in a row, shared with the tensor where that is contiguous."""
    return values.detach().contiguous().view(-1).numpy()


def share_gaussians(kernel: Callable, num_gaussians: int, *args) -> None:
    """Run a kernel that takes Gaussians chunk by chunk, on no more threads than there are chunks."""
    share_out(kernel, *args, max_threads=-(-num_gaussians // CHUNK))


def affine_of(displace: Callable[[Tensor], Tensor]) -> Tensor:
    """The matrix [3, 4] of an affine map, by what it does to the origin and unit vectors."""
    moved = displace(torch.cat([torch.zeros(1, 3), torch.eye(3)]))
    return torch.cat([(moved[1:] - moved[0]).T, moved[:1].T], dim=1)
