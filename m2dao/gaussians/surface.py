"""Estimates how deep the pixels of a head lie, and lets neighbours agree on a better depth.

Shapes: N pixels, D depths, L = 478 landmarks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import cKDTree

from m2dao.gaussians.views import project

_BEND_BACK = 0.7  # metres of depth for each metre outside the landmark hull
_DEEPEST_M = 0.09  # hair and ears lie at most this far behind the hull's rim
_SURFACE_FREEDOM_M = 0.008  # how far landmarks may be off
_OUTSIDE_FREEDOM = 0.8  # metres more for each metre outside the hull
_NUM_NEIGHBOURS = 16


def surface_depth(
    pixels: np.ndarray, viewmat: np.ndarray, K: np.ndarray, canonical: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Depth of head pixels: interpolated inside the landmark hull, bent back outside of it.

    Args:
        pixels: [N, 2] x, y.
        viewmat: [4, 4] head space to camera.
        K: [3, 3].
        canonical: [L, 3] landmarks in head space.

    Returns:
        [N] metres from the camera, and [N] metres that each may be off.
    """
    marks = project(canonical, viewmat, K)
    mark_depth = canonical @ viewmat[2, :3] + viewmat[2, 3]
    depth = LinearNDInterpolator(marks, mark_depth)(pixels)
    outside = np.isnan(depth)
    distance_px, index = cKDTree(marks).query(pixels[outside])
    distance_m = distance_px * mark_depth[index] / K[0, 0]
    depth[outside] = mark_depth[index] + np.minimum(_BEND_BACK * distance_m, _DEEPEST_M)
    freedom_m = np.full(len(pixels), _SURFACE_FREEDOM_M)
    freedom_m[outside] += np.minimum(_OUTSIDE_FREEDOM * distance_m, _DEEPEST_M)
    return depth, freedom_m


def decided_together(
    positions: np.ndarray, costs: np.ndarray, choose: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """What neighbours choose by their mean cost, and the median of that among neighbours.

    Args:
        positions: [N, 2 or 3], which say who is whose neighbour.
        costs: [N, D] of the depths tried.
        choose: from mean costs [N, D] to a choice [N].

    Returns:
        [N].
    """
    _, near = cKDTree(positions).query(positions, k=min(_NUM_NEIGHBOURS, len(positions)))
    near = near.reshape(len(positions), -1)
    return np.median(choose(costs[near].mean(axis=1))[near], axis=1)
