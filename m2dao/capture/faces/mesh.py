"""The skin of the face as a mesh of triangles between landmarks.

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
    layout = face_layout()
    triangles = Delaunay(layout).simplices.astype(np.int32)
    a, b, c = layout[triangles[:, 0]], layout[triangles[:, 1]], layout[triangles[:, 2]]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    triangles[area < 0] = triangles[area < 0][:, ::-1]
    triangles = triangles[np.abs(area) > 1e-9]
    skin = np.ascontiguousarray(triangles[~_in_openings(triangles)])
    skin.flags.writeable = False
    return skin


def _in_openings(triangles: np.ndarray) -> np.ndarray:
    """Which of the triangles [M, 3] close the mouth or an eye: bool [M]."""
    layout = face_layout()
    inside = np.zeros(len(triangles), bool)
    for contour in (INNER_LIPS, RIGHT_EYE, LEFT_EYE):
        # Inside an opening are the triangles whose corners all lie on its contour.
        on_contour = np.isin(triangles, contour).all(axis=1)
        inside |= on_contour & _inside(layout[triangles].mean(axis=1), layout[list(contour)])
    return inside


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """bool [N]: which points [N, 2] lie inside the closed polygon [P, 2]."""
    contour = polygon.astype(np.float32).reshape(-1, 1, 2)
    return np.array([cv2.pointPolygonTest(contour, (float(x), float(y)), False) > 0 for x, y in points])
