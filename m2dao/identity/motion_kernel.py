"""Numba kernels of ``FieldMotion.total``: attention times hidden features times a frame's matrix, and the way back.

Most Gaussians lie beyond the reach of most groups of codes, so their attention is nothing and the group is left out.
``m2dao.motion.factored`` defines what is correct. A leading ``v_`` is dLoss/d(name).
Shapes: N Gaussians, H hidden features (a multiple of 8), G code groups.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from m2dao.motion.factored import NUM_OUTPUTS
from m2dao.render.cpu_project import CHUNK
from m2dao.render.simd import LANES, fetch_add, get, load8, put, splat8, store8, sum8

NUM_COLUMNS = 2 * LANES  # of a motion: means, quats, log scales, colours, and three of nothing


@njit(cache=True, nogil=True)
def move(
    queue,  # int64 [1] next chunk of Gaussians
    features,  # float32 [N * (H + G)]
    matrix,  # float32 [G * H * 16]
    num_hidden,  # H
    num_groups,  # G
    adds,  # whether to add to what is there
    out,  # out float32 [N * 16]
):
    """The motion of every Gaussian."""
    width = num_hidden + num_groups
    num_gaussians = features.shape[0] // width
    while True:
        first = fetch_add(queue, 1) * CHUNK
        if first >= num_gaussians:
            break
        for i in range(first, min(first + CHUNK, num_gaussians)):
            begin, target = i * width, i * NUM_COLUMNS
            total, other_total = splat8(0.0), splat8(0.0)
            if adds:
                total, other_total = load8(out, target), load8(out, target + LANES)
            for group in range(num_groups):
                attention = get(features, begin + num_hidden + group)
                if attention == 0:
                    continue
                # Two rows at a time, because each sum waits for its own last addition.
                a, b, c, d = splat8(0.0), splat8(0.0), splat8(0.0), splat8(0.0)
                row = group * num_hidden * NUM_COLUMNS
                for k in range(begin, begin + num_hidden, 2):
                    feature, other = splat8(get(features, k)), splat8(get(features, k + 1))
                    a = a + feature * load8(matrix, row)
                    b = b + feature * load8(matrix, row + LANES)
                    c = c + other * load8(matrix, row + 2 * LANES)
                    d = d + other * load8(matrix, row + 3 * LANES)
                    row += 2 * NUM_COLUMNS
                total = total + splat8(attention) * (a + c)
                other_total = other_total + splat8(attention) * (b + d)
            store8(out, target, total)
            store8(out, target + LANES, other_total)


@njit(cache=True, nogil=True)
def move_backward(
    queue,  # int64 [1] next chunk of Gaussians
    features,  # float32 [N * (H + G)]
    turned,  # float32 [G * 13 * H] the matrix, columns first
    num_hidden,  # H
    num_groups,  # G
    v_out,  # float32 [N * 16]
    v_features,  # out float32 [N * (H + G)]
    v_matrix_chunks,  # out float32 [ceil(N / CHUNK), G * H * 16], to be summed by the caller
):
    """Gradients of the motion. An attention of nothing stays so: its gradient is nothing, which loses nothing where it is a
    logistic function times a reach."""
    width = num_hidden + num_groups
    num_gaussians = features.shape[0] // width
    asked = np.empty(num_hidden, np.float32)  # what one group's product asks of the hidden features
    while True:
        chunk = fetch_add(queue, 1)
        first = chunk * CHUNK
        if first >= num_gaussians:
            break
        v_matrix = v_matrix_chunks[chunk]
        v_matrix[:] = np.float32(0.0)
        for i in range(first, min(first + CHUNK, num_gaussians)):
            begin, source = i * width, i * NUM_COLUMNS
            v, v_other = load8(v_out, source), load8(v_out, source + LANES)
            for k in range(0, num_hidden, LANES):
                store8(v_features, begin + k, splat8(0.0))
            for group in range(num_groups):
                attention = get(features, begin + num_hidden + group)
                if attention == 0:
                    put(v_features, begin + num_hidden + group, 0.0)
                    continue
                weight, along = splat8(attention), splat8(0.0)
                for k in range(0, num_hidden, LANES):
                    total, other_total = splat8(0.0), splat8(0.0)
                    at = group * NUM_OUTPUTS * num_hidden + k
                    for column in range(0, NUM_OUTPUTS - 1, 2):
                        total = total + splat8(get(v_out, source + column)) * load8(turned, at)
                        other_total = other_total + splat8(get(v_out, source + column + 1)) * load8(turned, at + num_hidden)
                        at += 2 * num_hidden
                    total = total + other_total + splat8(get(v_out, source + NUM_OUTPUTS - 1)) * load8(turned, at)
                    along = along + total * load8(features, begin + k)
                    store8(asked, k, total)
                put(v_features, begin + num_hidden + group, sum8(along))
                for k in range(0, num_hidden, LANES):
                    store8(v_features, begin + k, load8(v_features, begin + k) + weight * load8(asked, k))
                row = group * num_hidden * NUM_COLUMNS
                for k in range(begin, begin + num_hidden):
                    share = splat8(attention * get(features, k))
                    store8(v_matrix, row, load8(v_matrix, row) + share * v)
                    store8(v_matrix, row + LANES, load8(v_matrix, row + LANES) + share * v_other)
                    row += NUM_COLUMNS


def compile_motion_kernel() -> None:
    """Move one Gaussian; the machine code stays on disk for later processes."""
    features, matrix, out = (np.ones(size, np.float32) for size in (LANES + 1, LANES * NUM_COLUMNS, NUM_COLUMNS))
    move(np.zeros(1, np.int64), features, matrix, LANES, 1, False, out)
