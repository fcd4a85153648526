"""The face as a mesh: contours of eyes, lips, brows and oval, triangles, and mirrored landmarks.

Landmark numbers are those of the face tracker's 478-point model: 0..467 lie on the skin, 468..472 and 473..477 are the
two irises. "Right" and "left" are the person's own.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from scipy.spatial import Delaunay

from m2dao.capture.faces.layout import face_layout
from m2dao.regions import INNER_LIPS, LEFT_EYE, RIGHT_EYE


@functools.cache
def face_triangles() -> np.ndarray:
    """Triangles of the skin, without the openings of eyes and mouth: int32 [M, 3], read-only.

    All wind the same way: seen in a frontal picture (y down) their signed area ``(b - a) x (c - a)`` is positive.
    """
    return _triangles_where(lambda opening: opening == 0)


@functools.cache
def mouth_triangles() -> np.ndarray:
    """Triangles that close the opening between the inner lips: int32 [M, 3], read-only."""
    return _triangles_where(lambda opening: opening == 1)


@functools.cache
def eye_triangles() -> np.ndarray:
    """Triangles that close the openings of both eyes: int32 [M, 3], read-only."""
    return _triangles_where(lambda opening: opening == 2)


@functools.cache
def mirrored_landmarks() -> np.ndarray:
    """int64 [478]: the landmark on the other side of the face; read-only."""
    where = {tuple(point): index for index, point in enumerate(face_layout().tolist())}
    surface = [where[(-x if x else 0.0, y)] for x, y in face_layout().tolist()]
    # Iris points run the same way round in the picture (centre, right, top, left, bottom), so right and left swap.
    irises = [473, 476, 475, 474, 477, 468, 471, 470, 469, 472]
    mirror = np.array(surface + irises)
    mirror.flags.writeable = False
    return mirror


@functools.cache
def _tagged_triangles() -> tuple[np.ndarray, np.ndarray]:
    """All triangles [M, 3] of the layout and their opening [M]: 0 skin, 1 mouth, 2 eyes."""
    layout = face_layout()
    triangles = Delaunay(layout).simplices.astype(np.int32)
    a, b, c = layout[triangles[:, 0]], layout[triangles[:, 1]], layout[triangles[:, 2]]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    triangles[area < 0] = triangles[area < 0][:, ::-1]
    triangles = triangles[np.abs(area) > 1e-9]
    opening = np.zeros(len(triangles), dtype=np.int32)
    for tag, contours in ((1, (INNER_LIPS,)), (2, (RIGHT_EYE, LEFT_EYE))):
        for contour in contours:
            # Inside an opening are the triangles whose corners all lie on its contour.
            opening[
                np.isin(triangles, contour).all(axis=1) & _inside(layout[triangles].mean(axis=1), layout[list(contour)])
            ] = tag
    return triangles, opening


def _triangles_where(condition) -> np.ndarray:
    triangles, opening = _tagged_triangles()
    chosen = np.ascontiguousarray(triangles[condition(opening)])
    chosen.flags.writeable = False
    return chosen


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """bool [N]: which points [N, 2] lie inside the closed polygon [P, 2]."""
    contour = polygon.astype(np.float32).reshape(-1, 1, 2)
    return np.array([cv2.pointPolygonTest(contour, (float(x), float(y)), False) > 0 for x, y in points])
