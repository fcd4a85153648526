"""Numba kernel: normal equations that align a head's texture with a picture.

As array operations on a few thousand points these cost more in calls than in arithmetic, and two threads would wait for
each other all the time.
"""

from __future__ import annotations

import numpy as np

from m2dao.kernels.compiled import helper, kernel, warms_up

NUM_UNKNOWNS = 8  # turn about the head's origin (3), shift (3), gain and offset of the brightness


@kernel()
def normal_equations(points, rotation, translation, focal_px, centre_px, layers, origin, mean, sigma, seen, half, dof):
    """Gauss-Newton normal equations of the brightness error, separately for the two halves of the points.

    Args:
        points: float64 [S, 3], head space, metres.
        rotation, translation: float64 [3, 3] and [3], the pose.
        focal_px, centre_px: of the camera.
        layers: float32 [h, w, 3], brightness and its derivatives by x and y.
        origin: float64 [2], pixel of the first element's centre.
        mean, sigma: float64 [S], the template; residuals are weighed by Student's t of ``dof`` degrees of freedom.
        seen: bool [S], points that count.
        half: bool [S], which half each belongs to.

    Returns:
        normal float64 [2, 8, 8] and gradient [2, 8]; index 0 is where ``half`` is true. And the brightness [S].
    """
    normal = np.zeros((2, NUM_UNKNOWNS, NUM_UNKNOWNS))
    gradient = np.zeros((2, NUM_UNKNOWNS))
    brightness = np.empty(len(points))
    row = np.empty(NUM_UNKNOWNS)
    turned = np.empty(3)
    for s in range(len(points)):
        for i in range(3):
            turned[i] = rotation[i, 0] * points[s, 0] + rotation[i, 1] * points[s, 1] + rotation[i, 2] * points[s, 2]
        x, y, z = turned[0] + translation[0], turned[1] + translation[1], turned[2] + translation[2]
        if not z > 0.0:  # behind the camera, where a step that went astray may lead
            brightness[s] = mean[s]
            continue
        nearness = focal_px / z
        value, by_x, by_y = _sample(layers, nearness * x + centre_px - origin[0], nearness * y + centre_px - origin[1])
        brightness[s] = value
        if not seen[s]:
            continue
        error = value - mean[s]
        weight = (dof + 1.0) / (dof * sigma[s] ** 2 + error**2)
        # By the point in camera space, which is also by the translation; turning the head by w moves it by w x turned.
        row[3], row[4] = by_x * nearness, by_y * nearness
        row[5] = -(row[3] * x + row[4] * y) / z
        for axis in range(3):
            i, j = (axis + 1) % 3, (axis + 2) % 3
            row[axis] = turned[i] * row[3 + j] - turned[j] * row[3 + i]
        row[6], row[7] = mean[s], 1.0
        part = 0 if half[s] else 1
        for i in range(NUM_UNKNOWNS):
            weighted = weight * row[i]
            gradient[part, i] += weighted * error
            for j in range(i + 1):
                normal[part, i, j] += weighted * row[j]
    for part in range(2):
        for i in range(NUM_UNKNOWNS):
            for j in range(i):
                normal[part, j, i] = normal[part, i, j]
    return normal, gradient, brightness


@helper()
def _sample(layers, x, y):
    """Bilinear between elements, the border repeated outside."""
    height, width = layers.shape[:2]
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    t, u = x - left, y - top
    a, b, c, d = (1 - t) * (1 - u), t * (1 - u), (1 - t) * u, t * u
    first, second = layers[top], layers[top + 1]
    value = a * first[left, 0] + b * first[left + 1, 0] + c * second[left, 0] + d * second[left + 1, 0]
    by_x = a * first[left, 1] + b * first[left + 1, 1] + c * second[left, 1] + d * second[left + 1, 1]
    by_y = a * first[left, 2] + b * first[left + 1, 2] + c * second[left, 2] + d * second[left + 1, 2]
    return value, by_x, by_y


@warms_up
def _align_nothing() -> None:
    """Sixteen points over a picture of eight pixels."""
    points = np.random.default_rng(0).random((16, 3))
    ones, yes = np.ones(16), np.ones(16, bool)
    layers = np.ones((8, 8, 3), np.float32)
    shift, origin = np.array([0.0, 0.0, 2.0]), np.zeros(2)
    normal_equations(points, np.eye(3), shift, 8.0, 4.0, layers, origin, ones, ones, yes, yes, 5.0)
