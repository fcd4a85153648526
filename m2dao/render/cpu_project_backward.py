"""Numba kernels of the ``cpu`` backend: gradients of 2D Gaussians back to the 3D ones.

The counterpart of ``m2dao.render.cpu_project``, with its letters and notation. A leading ``v_`` is dLoss/d(name).
"""

from __future__ import annotations

import math

from m2dao.kernels.compiled import helper, kernel
from m2dao.kernels.simd import fetch_add
from m2dao.kernels.threads import CHUNK
from m2dao.render.cpu_project import SAFE_MATH, ray_limits, rotation_of, times_rotation


@helper(inline="always")
def _covariance_gradient(a, b, c, v_a, v_b, v_c):
    """dLoss/d(covariance) = -conic @ dLoss/d(conic) @ conic, symmetric: xx, xy, yy."""
    half = 0.5 * v_b
    left_xx, left_xy = a * v_a + b * half, a * half + b * v_c
    left_yx, left_yy = b * v_a + c * half, b * half + c * v_c
    return -(left_xx * a + left_xy * b), -(left_xx * b + left_xy * c), -(left_yx * b + left_yy * c)


@helper(fastmath=SAFE_MATH)
def _project_one_backward(
    i,
    means,
    quats,
    scales,
    V,
    K,
    limits,
    conics,
    v_means2d,
    v_conics,
    v_means,
    v_quats,
    v_scales,
    v_V,
    wants_view,
):
    px, py, pz = float(means[i, 0]), float(means[i, 1]), float(means[i, 2])
    x, y, z = times_rotation(V, px, py, pz)
    x, y, z = x + V[0, 3], y + V[1, 3], z + V[2, 3]
    qw, qx, qy, qz = float(quats[i, 0]), float(quats[i, 1]), float(quats[i, 2]), float(quats[i, 3])
    inverse_norm = 1.0 / math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
    qw, qx, qy, qz = qw * inverse_norm, qx * inverse_norm, qy * inverse_norm, qz * inverse_norm
    rotation = rotation_of(qw, qx, qy, qz)
    min_x, max_x, min_y, max_y = limits
    inverse_z = 1.0 / z
    jx, jy = K[0, 0] * inverse_z, K[1, 1] * inverse_z
    ray_x, ray_y = x * inverse_z, y * inverse_z
    clamped_x, clamped_y = min(max(ray_x, min_x), max_x), min(max(ray_y, min_y), max_y)
    jxz, jyz = -jx * clamped_x, -jy * clamped_y

    h_xx, h_xy, h_yy = _covariance_gradient(
        conics[i, 0], conics[i, 1], conics[i, 2], v_conics[i, 0], v_conics[i, 1], v_conics[i, 2]
    )
    v_jx, v_jy, v_jxz, v_jyz = 0.0, 0.0, 0.0, 0.0
    v_rotation = (0.0, 0.0, 0.0)
    v_columns = (v_rotation, v_rotation, v_rotation)
    for axis in range(3):
        scale = float(scales[i, axis])
        ux, uy, uz = rotation[axis], rotation[3 + axis], rotation[6 + axis]
        sx, sy, sz = ux * scale, uy * scale, uz * scale
        ax, ay, az = times_rotation(V, sx, sy, sz)
        image_x = jx * ax + jxz * az
        image_y = jy * ay + jyz * az
        v_image_x = 2.0 * (h_xx * image_x + h_xy * image_y)
        v_image_y = 2.0 * (h_xy * image_x + h_yy * image_y)
        v_jx += v_image_x * ax
        v_jy += v_image_y * ay
        v_jxz += v_image_x * az
        v_jyz += v_image_y * az
        v_ax, v_ay, v_az = v_image_x * jx, v_image_y * jy, v_image_x * jxz + v_image_y * jyz
        if wants_view:
            _add_outer(v_V, v_ax, v_ay, v_az, sx, sy, sz)
        v_sx = V[0, 0] * v_ax + V[1, 0] * v_ay + V[2, 0] * v_az
        v_sy = V[0, 1] * v_ax + V[1, 1] * v_ay + V[2, 1] * v_az
        v_sz = V[0, 2] * v_ax + V[1, 2] * v_ay + V[2, 2] * v_az
        v_scales[i, axis] += v_sx * ux + v_sy * uy + v_sz * uz
        column = (v_sx * scale, v_sy * scale, v_sz * scale)
        if axis == 0:
            v_columns = (column, v_columns[1], v_columns[2])
        elif axis == 1:
            v_columns = (v_columns[0], column, v_columns[2])
        else:
            v_columns = (v_columns[0], v_columns[1], column)
    _add_quat_gradient(v_quats, i, qw, qx, qy, qz, inverse_norm, v_columns)

    # The mean moves the projected mean (u = jx x + cx) and the Jacobian.
    v_u, v_v = float(v_means2d[i, 0]), float(v_means2d[i, 1])
    v_x, v_y = jx * v_u, jy * v_v
    v_z = -inverse_z * (v_x * x + v_y * y)
    v_z -= inverse_z * (jx * v_jx + jy * v_jy + jxz * v_jxz + jyz * v_jyz)
    if ray_x >= min_x and ray_x <= max_x:
        v_ray = -jx * v_jxz
        v_x += v_ray * inverse_z
        v_z -= v_ray * ray_x * inverse_z
    if ray_y >= min_y and ray_y <= max_y:
        v_ray = -jy * v_jyz
        v_y += v_ray * inverse_z
        v_z -= v_ray * ray_y * inverse_z
    if wants_view:
        _add_outer(v_V, v_x, v_y, v_z, px, py, pz)
        v_V[0, 3] += v_x
        v_V[1, 3] += v_y
        v_V[2, 3] += v_z
    v_means[i, 0] += V[0, 0] * v_x + V[1, 0] * v_y + V[2, 0] * v_z
    v_means[i, 1] += V[0, 1] * v_x + V[1, 1] * v_y + V[2, 1] * v_z
    v_means[i, 2] += V[0, 2] * v_x + V[1, 2] * v_y + V[2, 2] * v_z


@helper(inline="always")
def _add_outer(matrix, a, b, c, x, y, z):
    """Adds the outer product of two columns to the upper left 3x3."""
    matrix[0, 0] += a * x
    matrix[0, 1] += a * y
    matrix[0, 2] += a * z
    matrix[1, 0] += b * x
    matrix[1, 1] += b * y
    matrix[1, 2] += b * z
    matrix[2, 0] += c * x
    matrix[2, 1] += c * y
    matrix[2, 2] += c * z


@helper(fastmath=SAFE_MATH)
def _add_quat_gradient(v_quats, i, w, x, y, z, inverse_norm, v_columns):
    """From dLoss/d(rotation), given as columns, through ``rotation_of`` and the normalisation."""
    (v00, v10, v20), (v01, v11, v21), (v02, v12, v22) = v_columns
    v_w = 2.0 * (x * (v21 - v12) + y * (v02 - v20) + z * (v10 - v01))
    v_x = 2.0 * (y * (v01 + v10) + z * (v02 + v20) + w * (v21 - v12) - 2.0 * x * (v11 + v22))
    v_y = 2.0 * (x * (v01 + v10) + z * (v12 + v21) + w * (v02 - v20) - 2.0 * y * (v00 + v22))
    v_z = 2.0 * (x * (v02 + v20) + y * (v12 + v21) + w * (v10 - v01) - 2.0 * z * (v00 + v11))
    along = v_w * w + v_x * x + v_y * y + v_z * z  # the length of a quaternion has no effect
    v_quats[i, 0] += (v_w - along * w) * inverse_norm
    v_quats[i, 1] += (v_x - along * x) * inverse_norm
    v_quats[i, 2] += (v_y - along * y) * inverse_norm
    v_quats[i, 3] += (v_z - along * z) * inverse_norm


@kernel(fastmath=SAFE_MATH)
def project_backward(
    queue,  # int64 [1] next chunk
    means,  # float32 [N, 3]
    quats,  # float32 [N, 4]
    scales,  # float32 [N, 3]
    viewmat,  # float64 [4, 4]
    K,  # float64 [3, 3]
    width,
    height,
    conics,  # float64 [N, 3]
    radii,  # int32 [N]
    v_means2d,  # float32 [N, 2]
    v_conics,  # float64 [N, 3]
    v_means,  # inout float32 [N, 3]; this image's gradient is added
    v_quats,  # inout float32 [N, 4]
    v_scales,  # inout float32 [N, 3]
    v_viewmat_chunks,  # inout float64 [ceil(N / CHUNK), 4, 4], zero on entry; to be summed by the caller
    wants_view,  # whether the camera's gradient is asked for
):
    """Gradients of the inputs of ``project`` from those of its outputs."""
    limits = ray_limits(K, width, height)
    while True:
        chunk = fetch_add(queue, 1)
        if chunk * CHUNK >= means.shape[0]:
            break
        v_viewmat = v_viewmat_chunks[chunk]
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, means.shape[0])):
            if radii[i] > 0:
                _project_one_backward(
                    i,
                    means,
                    quats,
                    scales,
                    viewmat,
                    K,
                    limits,
                    conics,
                    v_means2d,
                    v_conics,
                    v_means,
                    v_quats,
                    v_scales,
                    v_viewmat,
                    wants_view,
                )
