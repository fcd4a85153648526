"""Numba kernels that do ``TalkingHead.pose`` for rendering in one pass over memory.

There are no gradients here; ``m2dao.motion.talking_head`` defines what is correct, and a test compares the two.
Shapes: N Gaussians of one group, B spherical-harmonic bases.
"""

from __future__ import annotations

import math

import numpy as np

from m2dao.gaussians.sh import C0, C1, C2
from m2dao.kernels.compiled import helper, kernel, warms_up
from m2dao.kernels.simd import fetch_add
from m2dao.kernels.threads import CHUNK
from m2dao.motion.kernels.motion_kernel import NUM_COLUMNS

_HALF, _ZERO = np.float32(0.5), np.float32(0.0)
_LEAST = np.float32(1e-12)  # distance: a Gaussian where the camera stands has no direction
_C0, _C1 = np.float32(C0), np.float32(C1)
_C20, _C21, _C22 = (np.float32(value) for value in C2)


@helper(inline="always")
def _deform(i, delta, quats, scales, out_scales):
    """The deformed quaternion of Gaussian ``i``; its scales are stored."""
    for k in range(3):
        out_scales[i, k] = scales[i, k] * math.exp(delta[i, 7 + k])
    return quats[i, 0] + delta[i, 3], quats[i, 1] + delta[i, 4], quats[i, 2] + delta[i, 5], quats[i, 3] + delta[i, 6]


@helper(inline="always")
def sh_color(i, channel, x, y, z, sh0, shN):
    """One channel of the spherical harmonics seen along the unit vector (x, y, z), clamped."""
    value = _HALF + _C0 * sh0[i, channel]
    if shN.shape[1] >= 3:
        value += _C1 * (z * shN[i, 1, channel] - y * shN[i, 0, channel] - x * shN[i, 2, channel])
    if shN.shape[1] == 8:
        value += _C20 * (x * y * shN[i, 3, channel] - y * z * shN[i, 4, channel] - x * z * shN[i, 6, channel])
        value += _C21 * (np.float32(3.0) * z * z - np.float32(1.0)) * shN[i, 5, channel]
        value += _C22 * (x * x - y * y) * shN[i, 7, channel]
    return max(value, _ZERO)


@kernel()
def pose_head(
    queue,  # int64 [1] next chunk of Gaussians
    means,  # float32 [N, 3] head space, metres
    quats,  # float32 [N, 4]
    scales,  # float32 [N, 3] metres
    sh0,  # float32 [N, 3]
    shN,  # float32 [N, B - 1, 3]
    delta,  # float32 [N, 16] motion: means, quats, log scales, colours, three columns of nothing
    viewmat,  # float32 [4, 4]
    quat,  # float32 [4] of the view's rotation
    camera,  # float32 [3] where the camera stands in head space
    out_means,  # out float32 [N, 3] camera space
    out_quats,  # out float32 [N, 4]
    out_scales,  # out float32 [N, 3]
    out_colors,  # out float32 [N, 4]
):
    """Deforms Gaussians of the head and carries them into camera space; channel four is one."""
    w, x, y, z = quat
    while True:
        first = fetch_add(queue, 1) * CHUNK
        if first >= means.shape[0]:
            break
        for i in range(first, min(first + CHUNK, means.shape[0])):
            dx, dy, dz = means[i, 0] - camera[0], means[i, 1] - camera[1], means[i, 2] - camera[2]
            scale = np.float32(1.0) / max(math.sqrt(dx * dx + dy * dy + dz * dz), _LEAST)
            dx, dy, dz = scale * dx, scale * dy, scale * dz
            for k in range(3):
                out_colors[i, k] = max(sh_color(i, k, dx, dy, dz, sh0, shN) + delta[i, 10 + k], _ZERO)
            out_colors[i, 3] = np.float32(1.0)
            mx, my, mz = means[i, 0] + delta[i, 0], means[i, 1] + delta[i, 1], means[i, 2] + delta[i, 2]
            for k in range(3):
                out_means[i, k] = viewmat[k, 0] * mx + viewmat[k, 1] * my + viewmat[k, 2] * mz + viewmat[k, 3]
            qw, qx, qy, qz = _deform(i, delta, quats, scales, out_scales)
            out_quats[i, 0] = w * qw - x * qx - y * qy - z * qz
            out_quats[i, 1] = w * qx + x * qw + y * qz - z * qy
            out_quats[i, 2] = w * qy - x * qz + y * qw + z * qx
            out_quats[i, 3] = w * qz + x * qy - y * qx + z * qw


@kernel()
def pose_torso(
    queue,  # int64 [1] next chunk of Gaussians
    means,  # float32 [N, 3] camera space at the reference pose, metres
    quats,  # float32 [N, 4]
    scales,  # float32 [N, 3] metres
    colors,  # float32 [N, 3]
    skinning,  # float32 [N] weight of the head's motion
    delta,  # float32 [N, 16] motion: means, quats, log scales, colours, three columns of nothing
    rigid,  # float32 [3, 4] what the head's motion since the reference adds to a position
    sway,  # float32 [3, 4] what the sway adds to it
    out_means,  # out float32 [N, 3] camera space
    out_quats,  # out float32 [N, 4]
    out_scales,  # out float32 [N, 3]
    out_colors,  # out float32 [N, 4]
):
    """Moves Gaussians of the torso between head motion and sway by weight, plus the field."""
    while True:
        first = fetch_add(queue, 1) * CHUNK
        if first >= means.shape[0]:
            break
        for i in range(first, min(first + CHUNK, means.shape[0])):
            x, y, z, weight = means[i, 0], means[i, 1], means[i, 2], skinning[i]
            for k in range(3):
                carried = rigid[k, 0] * x + rigid[k, 1] * y + rigid[k, 2] * z + rigid[k, 3]
                swayed = sway[k, 0] * x + sway[k, 1] * y + sway[k, 2] * z + sway[k, 3]
                out_means[i, k] = means[i, k] + weight * carried + (np.float32(1.0) - weight) * swayed + delta[i, k]
                out_colors[i, k] = max(colors[i, k] + delta[i, 10 + k], _ZERO)
            out_colors[i, 3] = _ZERO
            out_quats[i, 0], out_quats[i, 1], out_quats[i, 2], out_quats[i, 3] = _deform(
                i, delta, quats, scales, out_scales
            )


@warms_up
def _pose_one_of_each() -> None:
    """One Gaussian of the head and one of the torso."""

    def of(*shape: int) -> np.ndarray:
        return np.ones(shape, np.float32)

    out = of(1, 3), of(1, 4), of(1, 3), of(1, 4)
    geometry, delta = (of(1, 3), of(1, 4), of(1, 3)), of(1, NUM_COLUMNS)
    pose_head(np.zeros(1, np.int64), *geometry, of(1, 3), of(1, 3, 3), delta, of(4, 4), of(4), of(3), *out)
    pose_torso(np.zeros(1, np.int64), *geometry, of(1, 3), of(1), delta, of(3, 4), of(3, 4), *out)
