"""Numba kernels of the ``cpu`` backend: 3D Gaussians to 2D ones.

Arithmetic is float64 (as fast as float32 in scalar code) between float32 arrays, so that long thin Gaussians keep
their shape: their covariance determinant is a small difference of large numbers.

Letters: N Gaussians, D channels, R the length of a record. Notation: camera = rotation @ mean + translation; axes =
rotation_of(quat) * scales; image_axes = jacobian @ rotation @ axes; covariance = image_axes @ image_axes^T + eps2d.
"""

from __future__ import annotations

import math

from m2dao.kernels.compiled import helper, kernel
from m2dao.kernels.simd import fetch_add
from m2dao.kernels.threads import CHUNK
from m2dao.render.conventions import ALPHA_MIN, FAR_PLANE, FRUSTUM_MARGIN, MAX_EXTENT_SIGMAS

MAX_RADIUS = 2.0**30
PIXEL_SLACK = 1e-3  # px by which boxes are widened, so that rounding never loses a visible pixel
LOG2_E = math.log2(math.e)
LOG2_ALPHA_MIN = math.log2(ALPHA_MIN)
# What the rasteriser knows of a Gaussian: projected mean, quadratic form of -log2(alpha / opacity), log2(opacity), and
# the colours, filled up to four with zeros.
RECORD_MEAN_X, RECORD_MEAN_Y, RECORD_XX, RECORD_XY, RECORD_YY, RECORD_LOG_OPACITY, RECORD_COLOR = range(7)
# Not "nnan" or "ninf": the checks for values that are not finite must survive.
SAFE_MATH = {"contract", "arcp", "nsz"}


@helper(inline="always")
def rotation_of(w, x, y, z):
    """Rotation matrix of a unit quaternion, row by row."""
    return (
        1.0 - 2.0 * (y * y + z * z),
        2.0 * (x * y - w * z),
        2.0 * (x * z + w * y),
        2.0 * (x * y + w * z),
        1.0 - 2.0 * (x * x + z * z),
        2.0 * (y * z - w * x),
        2.0 * (x * z - w * y),
        2.0 * (y * z + w * x),
        1.0 - 2.0 * (x * x + y * y),
    )


@helper(inline="always")
def ray_limits(K, width, height):
    """Range of x/z and y/z used in the Jacobian: the image and FRUSTUM_MARGIN of half its field of view."""
    margin_x = FRUSTUM_MARGIN * 0.5 * width / K[0, 0]
    margin_y = FRUSTUM_MARGIN * 0.5 * height / K[1, 1]
    return (
        -K[0, 2] / K[0, 0] - margin_x,
        (width - K[0, 2]) / K[0, 0] + margin_x,
        -K[1, 2] / K[1, 1] - margin_y,
        (height - K[1, 2]) / K[1, 1] + margin_y,
    )


@helper(inline="always")
def times_rotation(V, a, b, c):
    """Upper left 3x3 of ``V`` times a column."""
    return (
        V[0, 0] * a + V[0, 1] * b + V[0, 2] * c,
        V[1, 0] * a + V[1, 1] * b + V[1, 2] * c,
        V[2, 0] * a + V[2, 1] * b + V[2, 2] * c,
    )


@helper(fastmath=SAFE_MATH)
def _project_one(
    i,
    means,
    quats,
    scales,
    opacities,
    colors,
    V,
    K,
    limits,
    width,
    height,
    near_plane,
    eps2d,
    means2d,
    conics,
    depths,
    radii,
    records,
    boxes,
):
    means2d[i, 0] = means2d[i, 1] = 0.0
    conics[i, 0] = conics[i, 1] = conics[i, 2] = 0.0
    radii[i] = 0
    boxes[i, 0] = boxes[i, 1] = boxes[i, 2] = boxes[i, 3] = 0
    opacity = float(opacities[i])
    x, y, z = times_rotation(V, float(means[i, 0]), float(means[i, 1]), float(means[i, 2]))
    x, y, z = x + V[0, 3], y + V[1, 3], z + V[2, 3]
    # Written so that a NaN fails them.
    if not (z >= near_plane and z <= FAR_PLANE and opacity >= ALPHA_MIN and opacity < math.inf):
        return
    qw, qx, qy, qz = float(quats[i, 0]), float(quats[i, 1]), float(quats[i, 2]), float(quats[i, 3])
    norm = math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
    if not norm > 0.0:
        return
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = rotation_of(qw / norm, qx / norm, qy / norm, qz / norm)
    min_x, max_x, min_y, max_y = limits
    inverse_z = 1.0 / z
    jx, jy = K[0, 0] * inverse_z, K[1, 1] * inverse_z
    jxz = -jx * min(max(x * inverse_z, min_x), max_x)
    jyz = -jy * min(max(y * inverse_z, min_y), max_y)

    var_x, var_y, cov_xy = eps2d, eps2d, 0.0
    for axis in range(3):
        scale = float(scales[i, axis])
        if axis == 0:
            ax, ay, az = times_rotation(V, r00 * scale, r10 * scale, r20 * scale)
        elif axis == 1:
            ax, ay, az = times_rotation(V, r01 * scale, r11 * scale, r21 * scale)
        else:
            ax, ay, az = times_rotation(V, r02 * scale, r12 * scale, r22 * scale)
        image_x = jx * ax + jxz * az
        image_y = jy * ay + jyz * az
        var_x += image_x * image_x
        var_y += image_y * image_y
        cov_xy += image_x * image_y
    determinant = var_x * var_y - cov_xy * cov_xy
    mean_x = jx * x + K[0, 2]
    mean_y = jy * y + K[1, 2]
    if not (determinant > 0.0 and determinant < math.inf and abs(mean_x) < math.inf and abs(mean_y) < math.inf):
        return
    log_opacity = math.log2(opacity)
    extent = math.sqrt(2.0 * max(log_opacity - LOG2_ALPHA_MIN, 0.0) / LOG2_E)
    sigma_x, sigma_y = math.sqrt(var_x), math.sqrt(var_y)
    radius_x = math.ceil(min(extent, MAX_EXTENT_SIGMAS) * sigma_x)
    radius_y = math.ceil(min(extent, MAX_EXTENT_SIGMAS) * sigma_y)
    radius = max(radius_x, radius_y)
    inside = (
        mean_x + radius_x > 0 and mean_x - radius_x < width and mean_y + radius_y > 0 and mean_y - radius_y < height
    )
    if not (inside and radius > 0 and _copy_colors(colors, records, i)):
        return
    means2d[i, 0], means2d[i, 1] = mean_x, mean_y
    conics[i, 0], conics[i, 1], conics[i, 2] = var_y / determinant, -cov_xy / determinant, var_x / determinant
    depths[i] = z
    radii[i] = int(min(radius, MAX_RADIUS))
    records[i, RECORD_MEAN_X], records[i, RECORD_MEAN_Y] = mean_x, mean_y
    records[i, RECORD_XX] = 0.5 * LOG2_E * var_y / determinant
    records[i, RECORD_XY] = -LOG2_E * cov_xy / determinant
    records[i, RECORD_YY] = 0.5 * LOG2_E * var_x / determinant
    records[i, RECORD_LOG_OPACITY] = log_opacity
    first_column, past_column = _pixel_range(mean_x, extent * sigma_x, width)
    first_row, past_row = _pixel_range(mean_y, extent * sigma_y, height)
    if first_column < past_column and first_row < past_row:
        boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = first_column, past_column, first_row, past_row


@helper(inline="always")
def _copy_colors(colors, records, i):
    """Fills the colours of a record; False if one is not finite."""
    num_channels = colors.shape[1]
    finite = True
    for k in range(num_channels):
        value = colors[i, k]
        finite = finite and math.isfinite(value)
        records[i, RECORD_COLOR + k] = value
    for k in range(num_channels, 4):
        records[i, RECORD_COLOR + k] = 0.0
    return finite


@helper(inline="always")
def _pixel_range(mean, extent, size):
    """First and past-the-last pixel whose centre lies within ``extent`` of ``mean``, inside the image."""
    first = math.ceil(max(mean - extent - PIXEL_SLACK - 0.5, 0.0))
    last = math.floor(min(mean + extent + PIXEL_SLACK - 0.5, size - 1.0))
    return int(min(first, float(size))), int(max(last, -1.0)) + 1


@kernel(fastmath=SAFE_MATH)
def project(
    queue,  # int64 [1] next chunk
    means,  # float32 [N, 3]
    quats,  # float32 [N, 4]
    scales,  # float32 [N, 3]
    opacities,  # float32 [N]
    colors,  # float32 [N, D]
    viewmat,  # float64 [4, 4]
    K,  # float64 [3, 3]
    width,
    height,
    near_plane,
    eps2d,
    means2d,  # out float32 [N, 2], zero where not drawn
    conics,  # out float64 [N, 3], zero where not drawn
    depths,  # out float32 [N], where drawn
    radii,  # out int32 [N], 0: not drawn
    records,  # out float32 [N, R], where drawn
    boxes,  # out int32 [N, 4] first and past-the-last column, first and past-the-last row of visible pixels
):
    """Projects every Gaussian into one image."""
    limits = ray_limits(K, width, height)
    while True:
        first = fetch_add(queue, 1) * CHUNK
        if first >= means.shape[0]:
            break
        for i in range(first, min(first + CHUNK, means.shape[0])):
            _project_one(
                i,
                means,
                quats,
                scales,
                opacities,
                colors,
                viewmat,
                K,
                limits,
                width,
                height,
                near_plane,
                eps2d,
                means2d,
                conics,
                depths,
                radii,
                records,
                boxes,
            )
