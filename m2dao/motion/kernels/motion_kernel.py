"""Numba kernels of ``FieldMotion.total``, forward and backward.

Most Gaussians lie beyond the reach of most groups of codes, so their attention is nothing and the group is left out.
``m2dao.motion.factored`` defines what is correct. A leading ``v_`` is dLoss/d(name).
Shapes: N Gaussians, H hidden features (a multiple of 16), G code groups.
"""

from __future__ import annotations

import numpy as np

from m2dao.kernels.compiled import helper, kernel, warms_up
from m2dao.kernels.simd import LANES, fetch_add, get, load8, put, splat8, store8, sum8
from m2dao.kernels.threads import CHUNK
from m2dao.motion.factored import NUM_OUTPUTS

NUM_COLUMNS = 2 * LANES  # of a motion: means, quats, log scales, colours, and three of nothing
_TILE = 64  # Gaussians whose features stay in the first cache while all groups pass over them
_ABREAST = 4  # Gaussians multiplied side by side: a matrix' entries are loaded once for all of them


@helper(inline="always")
def _moved_by(group, first, past, features, width, num_hidden, members, weights):
    """Gaussians that a group moves and their attentions, filled up to whole fours with attention 0."""
    count = 0
    for i in range(first, past):
        attention = get(features, i * width + num_hidden + group)
        if attention != 0:
            members[count] = i
            put(weights, count, attention)
            count += 1
    filled = count
    while filled % _ABREAST:
        members[filled] = members[count - 1]
        put(weights, filled, 0.0)
        filled += 1
    return filled


@helper(inline="always")
def _add_to(out, at, total, other_total):
    store8(out, at, load8(out, at) + total)
    store8(out, at + LANES, load8(out, at + LANES) + other_total)


@kernel()
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
    members, weights = np.empty(_TILE + _ABREAST, np.int64), np.empty(_TILE + _ABREAST, np.float32)
    while True:
        chunk = fetch_add(queue, 1) * CHUNK
        if chunk >= num_gaussians:
            break
        for first in range(chunk, min(chunk + CHUNK, num_gaussians), _TILE):
            past = min(first + _TILE, num_gaussians)
            if not adds:
                out[first * NUM_COLUMNS : past * NUM_COLUMNS] = np.float32(0.0)
            for group in range(num_groups):
                filled = _moved_by(group, first, past, features, width, num_hidden, members, weights)
                for at in range(0, filled, _ABREAST):
                    i0, i1, i2, i3 = members[at], members[at + 1], members[at + 2], members[at + 3]
                    a0, a1, a2, a3 = splat8(0.0), splat8(0.0), splat8(0.0), splat8(0.0)
                    b0, b1, b2, b3 = splat8(0.0), splat8(0.0), splat8(0.0), splat8(0.0)
                    row = group * num_hidden * NUM_COLUMNS
                    for k in range(num_hidden):
                        left, right = load8(matrix, row), load8(matrix, row + LANES)
                        feature = splat8(get(features, i0 * width + k))
                        a0, b0 = a0 + feature * left, b0 + feature * right
                        feature = splat8(get(features, i1 * width + k))
                        a1, b1 = a1 + feature * left, b1 + feature * right
                        feature = splat8(get(features, i2 * width + k))
                        a2, b2 = a2 + feature * left, b2 + feature * right
                        feature = splat8(get(features, i3 * width + k))
                        a3, b3 = a3 + feature * left, b3 + feature * right
                        row += NUM_COLUMNS
                    # One after the other, because the last ones may be the same Gaussian.
                    weight = splat8(get(weights, at))
                    _add_to(out, i0 * NUM_COLUMNS, weight * a0, weight * b0)
                    weight = splat8(get(weights, at + 1))
                    _add_to(out, i1 * NUM_COLUMNS, weight * a1, weight * b1)
                    weight = splat8(get(weights, at + 2))
                    _add_to(out, i2 * NUM_COLUMNS, weight * a2, weight * b2)
                    weight = splat8(get(weights, at + 3))
                    _add_to(out, i3 * NUM_COLUMNS, weight * a3, weight * b3)


@helper(inline="always")
def _ask(v_features, features, at, weight, left, right, along):
    """Add a product's gradient to sixteen hidden features; returns the attention's, added to ``along``."""
    other = at + LANES
    along = along + left * load8(features, at) + right * load8(features, other)
    store8(v_features, at, load8(v_features, at) + weight * left)
    store8(v_features, other, load8(v_features, other) + weight * right)
    return along


@kernel()
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
    """Gradients of the motion.

    An attention of zero gets a zero gradient. Nothing is lost by that where it is a logistic function times a falloff.
    """
    width = num_hidden + num_groups
    num_gaussians = features.shape[0] // width
    members, weights = np.empty(_TILE + _ABREAST, np.int64), np.empty(_TILE + _ABREAST, np.float32)
    while True:
        chunk = fetch_add(queue, 1)
        start = chunk * CHUNK
        if start >= num_gaussians:
            break
        v_matrix = v_matrix_chunks[chunk]
        v_matrix[:] = np.float32(0.0)
        for first in range(start, min(start + CHUNK, num_gaussians), _TILE):
            past = min(first + _TILE, num_gaussians)
            v_features[first * width : past * width] = np.float32(0.0)
            for group in range(num_groups):
                filled = _moved_by(group, first, past, features, width, num_hidden, members, weights)
                for at in range(0, filled, _ABREAST):
                    i0, i1, i2, i3 = members[at], members[at + 1], members[at + 2], members[at + 3]
                    w0, w1 = splat8(get(weights, at)), splat8(get(weights, at + 1))
                    w2, w3 = splat8(get(weights, at + 2)), splat8(get(weights, at + 3))
                    s0, s1, s2, s3 = i0 * NUM_COLUMNS, i1 * NUM_COLUMNS, i2 * NUM_COLUMNS, i3 * NUM_COLUMNS
                    f0, f1, f2, f3 = i0 * width, i1 * width, i2 * width, i3 * width
                    along0, along1, along2, along3 = splat8(0.0), splat8(0.0), splat8(0.0), splat8(0.0)
                    for k in range(0, num_hidden, 2 * LANES):
                        t0, t1, t2, t3 = splat8(0.0), splat8(0.0), splat8(0.0), splat8(0.0)
                        u0, u1, u2, u3 = splat8(0.0), splat8(0.0), splat8(0.0), splat8(0.0)
                        entry = group * NUM_OUTPUTS * num_hidden + k
                        for column in range(NUM_OUTPUTS):
                            left, right = load8(turned, entry), load8(turned, entry + LANES)
                            v = splat8(get(v_out, s0 + column))
                            t0, u0 = t0 + v * left, u0 + v * right
                            v = splat8(get(v_out, s1 + column))
                            t1, u1 = t1 + v * left, u1 + v * right
                            v = splat8(get(v_out, s2 + column))
                            t2, u2 = t2 + v * left, u2 + v * right
                            v = splat8(get(v_out, s3 + column))
                            t3, u3 = t3 + v * left, u3 + v * right
                            entry += num_hidden
                        along0 = _ask(v_features, features, f0 + k, w0, t0, u0, along0)
                        along1 = _ask(v_features, features, f1 + k, w1, t1, u1, along1)
                        along2 = _ask(v_features, features, f2 + k, w2, t2, u2, along2)
                        along3 = _ask(v_features, features, f3 + k, w3, t3, u3, along3)
                    put(v_features, f0 + num_hidden + group, sum8(along0))
                    put(v_features, f1 + num_hidden + group, sum8(along1))
                    put(v_features, f2 + num_hidden + group, sum8(along2))
                    put(v_features, f3 + num_hidden + group, sum8(along3))
                    left0, right0 = w0 * load8(v_out, s0), w0 * load8(v_out, s0 + LANES)
                    left1, right1 = w1 * load8(v_out, s1), w1 * load8(v_out, s1 + LANES)
                    left2, right2 = w2 * load8(v_out, s2), w2 * load8(v_out, s2 + LANES)
                    left3, right3 = w3 * load8(v_out, s3), w3 * load8(v_out, s3 + LANES)
                    row = group * num_hidden * NUM_COLUMNS
                    for k in range(num_hidden):
                        left, right = load8(v_matrix, row), load8(v_matrix, row + LANES)
                        feature = splat8(get(features, f0 + k))
                        left, right = left + feature * left0, right + feature * right0
                        feature = splat8(get(features, f1 + k))
                        left, right = left + feature * left1, right + feature * right1
                        feature = splat8(get(features, f2 + k))
                        left, right = left + feature * left2, right + feature * right2
                        feature = splat8(get(features, f3 + k))
                        left, right = left + feature * left3, right + feature * right3
                        store8(v_matrix, row, left)
                        store8(v_matrix, row + LANES, right)
                        row += NUM_COLUMNS


@warms_up
def _move_one() -> None:
    """One Gaussian, forward and backward."""
    num_hidden = 2 * LANES
    features, matrix, out = (
        np.ones(size, np.float32) for size in (num_hidden + 1, num_hidden * NUM_COLUMNS, NUM_COLUMNS)
    )
    move(np.zeros(1, np.int64), features, matrix, num_hidden, 1, False, out)
