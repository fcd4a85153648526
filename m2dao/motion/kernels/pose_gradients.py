"""Numba kernels that carry gradients from posed Gaussians to what they were posed from.

The counterpart of ``m2dao.motion.kernels.posing_kernel``; ``TalkingHead.pose`` under autograd defines what is correct.
A leading ``v_`` is dLoss/d(name).
Shapes: N Gaussians of one group, B spherical-harmonic bases.
"""

from __future__ import annotations

import math

import numpy as np

from m2dao.gaussians.sh import C0, C1, C2
from m2dao.kernels.compiled import helper, kernel
from m2dao.kernels.simd import fetch_add
from m2dao.kernels.threads import CHUNK
from m2dao.motion.kernels.motion_kernel import NUM_COLUMNS
from m2dao.motion.kernels.posing_kernel import sh_color

_ZERO, _LEAST = np.float32(0.0), np.float32(1e-12)
_C0, _C1 = np.float32(C0), np.float32(C1)
_C20, _C21, _C22 = (np.float32(value) for value in C2)
_THREE, _ONE = np.float32(3.0), np.float32(1.0)


@helper(inline="always")
def _quat_and_scales(i, w, x, y, z, quats, scales, v_scales, v_raw_quats, v_raw_scales, v_delta):
    """Gradients of the raw quaternion, whose length does not count, and of the scales."""
    length = max(math.sqrt(quats[i, 0] ** 2 + quats[i, 1] ** 2 + quats[i, 2] ** 2 + quats[i, 3] ** 2), _LEAST)
    a, b, c, d = quats[i, 0] / length, quats[i, 1] / length, quats[i, 2] / length, quats[i, 3] / length
    along = a * w + b * x + c * y + d * z
    v_raw_quats[i, 0], v_raw_quats[i, 1] = (w - along * a) / length, (x - along * b) / length
    v_raw_quats[i, 2], v_raw_quats[i, 3] = (y - along * c) / length, (z - along * d) / length
    v_delta[i, 3], v_delta[i, 4], v_delta[i, 5], v_delta[i, 6] = w, x, y, z
    for k in range(3):
        v_raw_scales[i, k] = v_delta[i, 7 + k] = v_scales[i, k] * scales[i, k]


@kernel()
def pose_head_backward(
    queue,  # int64 [1] next chunk of Gaussians
    means,  # float32 [N, 3] head space, metres
    quats,  # float32 [N, 4] raw
    sh0,  # float32 [N, 3]
    shN,  # float32 [N, B - 1, 3]
    viewmat,  # float32 [4, 4]
    quat,  # float32 [4] of the view's rotation
    camera,  # float32 [3] where the camera stands in head space
    scales,  # float32 [N, 3] posed
    colors,  # float32 [N, 4] posed
    v_means,  # float32 [N, 3] of posed Gaussians, as the next three
    v_quats,  # float32 [N, 4]
    v_scales,  # float32 [N, 3]
    v_colors,  # float32 [N, 4]
    v_raw_means,  # out float32 [N, 3]
    v_raw_quats,  # out float32 [N, 4]
    v_raw_scales,  # out float32 [N, 3]
    v_sh0,  # out float32 [N, 3]
    v_shN,  # out float32 [N, B - 1, 3]
    v_delta,  # out float32 [N, 16] of the motion, three columns of nothing
):
    """Gradients of a group of the head. The direction that a colour is seen from is a constant."""
    num_bases = shN.shape[1]
    w, x, y, z = quat
    while True:
        first = fetch_add(queue, 1) * CHUNK
        if first >= means.shape[0]:
            break
        for i in range(first, min(first + CHUNK, means.shape[0])):
            for k in range(3):
                v = viewmat[0, k] * v_means[i, 0] + viewmat[1, k] * v_means[i, 1] + viewmat[2, k] * v_means[i, 2]
                v_raw_means[i, k] = v_delta[i, k] = v
            a, b, c, d = v_quats[i, 0], v_quats[i, 1], v_quats[i, 2], v_quats[i, 3]
            # The view's rotation multiplies from the left: its transpose is the product with the conjugate.
            _quat_and_scales(
                i,
                w * a + x * b + y * c + z * d,
                w * b - x * a - y * d + z * c,
                w * c + x * d - y * a - z * b,
                w * d - x * c + y * b - z * a,
                quats,
                scales,
                v_scales,
                v_raw_quats,
                v_raw_scales,
                v_delta,
            )
            dx, dy, dz = means[i, 0] - camera[0], means[i, 1] - camera[1], means[i, 2] - camera[2]
            scale = _ONE / max(math.sqrt(dx * dx + dy * dy + dz * dz), _LEAST)
            dx, dy, dz = scale * dx, scale * dy, scale * dz
            for k in range(3):
                v = v_colors[i, k] if colors[i, k] > _ZERO else _ZERO
                v_delta[i, 10 + k] = v
                if sh_color(i, k, dx, dy, dz, sh0, shN) <= _ZERO:
                    v = _ZERO
                v_sh0[i, k] = _C0 * v
                if num_bases >= 3:
                    v_shN[i, 0, k], v_shN[i, 1, k], v_shN[i, 2, k] = -_C1 * dy * v, _C1 * dz * v, -_C1 * dx * v
                if num_bases == 8:
                    v_shN[i, 3, k], v_shN[i, 4, k], v_shN[i, 6, k] = (
                        _C20 * dx * dy * v,
                        -_C20 * dy * dz * v,
                        -_C20 * dx * dz * v,
                    )
                    v_shN[i, 5, k] = _C21 * (_THREE * dz * dz - _ONE) * v
                    v_shN[i, 7, k] = _C22 * (dx * dx - dy * dy) * v
            for k in range(13, NUM_COLUMNS):
                v_delta[i, k] = _ZERO


@kernel()
def pose_torso_backward(
    queue,  # int64 [1] next chunk of Gaussians
    means,  # float32 [N, 3] camera space at the reference pose, metres
    quats,  # float32 [N, 4] raw
    sh0,  # float32 [N, 3]
    shN,  # float32 [N, 0, 3]
    skinning,  # float32 [N] weight of the head's motion, 0..1
    rigid,  # float32 [3, 4] what the head's motion since the reference adds to a position
    sway,  # float32 [3, 4] what the sway adds to it
    scales,  # float32 [N, 3] posed
    colors,  # float32 [N, 4] posed
    v_means,  # float32 [N, 3] of posed Gaussians, as the next three
    v_quats,  # float32 [N, 4]
    v_scales,  # float32 [N, 3]
    v_colors,  # float32 [N, 4]
    v_residual,  # float32 [N, 3] of what the field added to the means
    v_raw_means,  # out float32 [N, 3]
    v_raw_quats,  # out float32 [N, 4]
    v_raw_scales,  # out float32 [N, 3]
    v_sh0,  # out float32 [N, 3]
    v_raw_skinning,  # out float32 [N] of the weight's logit
    v_delta,  # out float32 [N, 16] of the motion, three columns of nothing
    v_sway_chunks,  # out float32 [ceil(N / CHUNK), 3, 4], to be summed by the caller
):
    """Gradients of the torso."""
    while True:
        chunk = fetch_add(queue, 1)
        first = chunk * CHUNK
        if first >= means.shape[0]:
            break
        v_sway = v_sway_chunks[chunk]
        v_sway[:] = _ZERO
        for i in range(first, min(first + CHUNK, means.shape[0])):
            px, py, pz, weight = means[i, 0], means[i, 1], means[i, 2], skinning[i]
            free, pull = _ONE - weight, _ZERO
            for k in range(3):
                v_raw_means[i, k] = v_means[i, k]
            for k in range(3):
                v = v_means[i, k]
                v_delta[i, k] = v + v_residual[i, k]
                carried = rigid[k, 0] * px + rigid[k, 1] * py + rigid[k, 2] * pz + rigid[k, 3]
                swayed = sway[k, 0] * px + sway[k, 1] * py + sway[k, 2] * pz + sway[k, 3]
                pull += v * (carried - swayed)
                for j in range(3):
                    v_raw_means[i, j] += v * (weight * rigid[k, j] + free * sway[k, j])
                v_sway[k, 0] += free * v * px
                v_sway[k, 1] += free * v * py
                v_sway[k, 2] += free * v * pz
                v_sway[k, 3] += free * v
                c = v_colors[i, k] if colors[i, k] > _ZERO else _ZERO
                v_delta[i, 10 + k] = c
                v_sh0[i, k] = _C0 * c if sh_color(i, k, _ZERO, _ZERO, _ZERO, sh0, shN) > _ZERO else _ZERO
            v_raw_skinning[i] = pull * weight * free
            _quat_and_scales(
                i,
                v_quats[i, 0],
                v_quats[i, 1],
                v_quats[i, 2],
                v_quats[i, 3],
                quats,
                scales,
                v_scales,
                v_raw_quats,
                v_raw_scales,
                v_delta,
            )
            for k in range(13, NUM_COLUMNS):
                v_delta[i, k] = _ZERO
