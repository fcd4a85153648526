"""Light on a presenter: the lamps of the room, and how much of them every vertex sees.

The resting head is drawn from directions spread over the sphere; a vertex that lies farther than such a depth map says
is hidden in that direction. The share of visible directions darkens sockets, nostrils and the neck (ambient occlusion),
and a cluster of directions around the key light gives it soft shadows. This is done once per presenter; shadows then
move with the head, which for turns of some degrees nobody can tell.
"""

from __future__ import annotations

import numpy as np

from m2dao.presenter import raster
from m2dao.presenter.hair import Strands
from m2dao.presenter.people import Person

_SPAN = 0.62  # metres that fit into a depth map
_MAP_SIDE = 420
_AROUND, _NEAR_KEY = 36, 10  # directions
_KEY_SPREAD = 0.16
_TOLERANCE_M = 0.0028


def lights_of(person: Person) -> np.ndarray:
    """Key, fill and rim light, sky and ground; see ``raster.shade``."""
    warm = person.backdrop == "library"
    lights = np.zeros((4, 6), np.float32)
    lights[0] = (-0.60, -0.62, -0.72, 1.95, 1.76, 1.52) if warm else (-0.75, -0.48, -0.70, 1.80, 1.82, 1.84)
    lights[1] = (0.75, -0.10, -0.75, 0.30, 0.29, 0.30) if warm else (0.75, -0.15, -0.75, 0.34, 0.32, 0.30)
    lights[2] = (0.85, -0.40, 0.55, 1.10, 0.86, 0.58) if warm else (-0.85, -0.40, 0.55, 0.80, 0.95, 1.10)
    lights[:3, :3] /= np.linalg.norm(lights[:3, :3], axis=1, keepdims=True)
    lights[3] = (0.32, 0.32, 0.34, 0.18, 0.15, 0.13)
    return lights


def bake(sheets: list, strands: Strands, roots: np.ndarray, key: np.ndarray) -> None:
    """Set ``light`` of every sheet: openness and visibility of the key light, f32 [R, C, 2].

    Args:
        sheets: triples of a sheet, its points f32 [R, C, 3], and the depth of its rim rows f32 [R].
        strands: the hair, which throws shadows too; roots f32 [N, 3] say where it grows.
        key: f32 [3], direction to the key light.
    """
    around = _sphere(_AROUND)
    near_key = key + _KEY_SPREAD * np.random.default_rng(5).standard_normal((_NEAR_KEY, 3))
    directions = np.concatenate([around, near_key / np.linalg.norm(near_key, axis=1, keepdims=True)])
    seen = [np.zeros((len(directions), *points.shape[:2]), np.float32) for _, points, _ in sheets]
    for d, direction in enumerate(directions):
        depth, projections = _depth_map(sheets, strands, roots, direction)
        for s, projected in enumerate(projections):
            seen[s][d] = _compare(depth, projected)
    for s, (sheet, points, rim) in enumerate(sheets):
        normals = np.empty_like(points)
        raster.grid_normals(points, sheet.wrap, normals)
        cosine = np.maximum(np.tensordot(around.astype(np.float32), normals, axes=(1, 2)), 0.0)
        openness = (cosine * seen[s][:_AROUND]).sum(0) / (cosine.sum(0) + 1e-6)
        light = np.stack([np.clip(0.12 + openness, 0, 1), seen[s][_AROUND:].mean(0)], -1).astype(np.float32)
        sheet.light = _smooth_light(light, rim)


def _sphere(count: int) -> np.ndarray:
    """Directions spread evenly over the sphere (golden spiral), f64 [count, 3]."""
    i = np.arange(count) + 0.5
    up = 1.0 - 2.0 * i / count
    turn = np.pi * (1.0 + 5.0**0.5) * i
    flat = np.sqrt(1.0 - up * up)
    return np.stack([flat * np.cos(turn), up, flat * np.sin(turn)], -1)


def _depth_map(sheets, strands: Strands, roots: np.ndarray, direction: np.ndarray):
    """Depth seen from the light, ``direction`` towards it, and each sheet's projection into that map."""
    forward = -direction
    helper = np.array([0.0, 1.0, 0.0]) if abs(forward[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    right = np.cross(helper, forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    far = 20.0
    view = np.eye(4)
    view[:3, :3] = np.stack([right, down, forward])
    view[:3, 3] = -view[:3, :3] @ np.array([0.0, 0.03, 0.04]) + np.array([0.0, 0.0, far])
    focal = np.float32(_MAP_SIDE * far / _SPAN)
    buffers = (
        np.full((_MAP_SIDE, _MAP_SIDE), 1e9, np.float32),
        np.zeros((_MAP_SIDE, _MAP_SIDE, 3), np.float32),
        np.zeros((_MAP_SIDE, _MAP_SIDE), np.uint8),
    )
    projections = []
    matrix = view.astype(np.float32)
    for sheet, points, _ in sheets:
        camera, unused = np.empty_like(points), np.empty_like(points)
        raster.to_camera(points, points, sheet.weight, matrix, matrix, camera, unused)
        projected = np.empty_like(points)
        raster.project(camera, focal, np.float32(_MAP_SIDE / 2), projected)
        raster.draw_sheet(projected, points, np.ones_like(sheet.region), sheet.skip_row, *buffers)
        projections.append(projected)
    raster.draw_strands(
        roots,
        strands.offsets,
        strands.tint,
        strands.base,
        strands.seen,
        3,
        matrix,
        np.zeros((4, 6), np.float32),
        focal,
        np.float32(_MAP_SIDE / 2),
        np.float32(0.0),
        *buffers,
    )
    return buffers[0], projections


def _compare(depth: np.ndarray, projected: np.ndarray) -> np.ndarray:
    """1 where a projected vertex is not farther than the depth map, else 0."""
    side = depth.shape[0]
    x = np.clip(projected[..., 0].astype(np.int64), 0, side - 1)
    y = np.clip(projected[..., 1].astype(np.int64), 0, side - 1)
    return (projected[..., 2] <= depth[y, x] + _TOLERANCE_M).astype(np.float32)


def _smooth_light(light: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """Average over neighbouring vertices, because depth maps are coarse and shadows soft.

    Rim rows (``rim`` above 0) lie folded behind their edge: they take no part, and only get darker inwards.
    """
    regular = np.flatnonzero(rim == 0)
    smooth = light[regular]
    for _ in range(6):
        padded = np.concatenate([smooth[:1], smooth, smooth[-1:]])
        smooth = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
        wrapped = np.concatenate([smooth[:, -2:-1], smooth, smooth[:, 1:2]], axis=1)
        smooth = 0.25 * wrapped[:, :-2] + 0.5 * wrapped[:, 1:-1] + 0.25 * wrapped[:, 2:]
    result = np.empty_like(light)
    result[regular] = smooth
    for row in np.flatnonzero(rim > 0):
        edge = regular[np.argmin(np.abs(regular - row))]
        result[row] = result[edge] * np.float32(np.exp(-rim[row] / 0.006))
    return result
