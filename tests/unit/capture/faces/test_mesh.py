"""The face mesh."""

from __future__ import annotations

import numpy as np

from m2dao.capture.faces.layout import face_layout
from m2dao.capture.faces.mesh import face_triangles
from m2dao.regions import FACE_OVAL, INNER_LIPS, LEFT_EYE, RIGHT_EYE


def edges(triangles: np.ndarray) -> np.ndarray:
    return np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)


def ring_edges(ring: tuple[int, ...]) -> set[tuple[int, int]]:
    return {tuple(sorted(pair)) for pair in zip(ring, ring[1:] + ring[:1], strict=True)}


def test_every_surface_landmark_is_in_the_mesh_and_every_edge_has_one_or_two_triangles():
    triangles = face_triangles()
    assert triangles.dtype == np.int32
    assert set(np.unique(triangles)) == set(range(468))
    _, counts = np.unique(edges(triangles), axis=0, return_counts=True)
    assert counts.max() == 2


def test_triangles_wind_the_same_way():
    a, b, c = face_layout()[face_triangles()].transpose(1, 0, 2)
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (area > 0).all()


def test_the_rim_of_the_mesh_is_the_face_oval_and_the_openings():
    unique, counts = np.unique(edges(face_triangles()), axis=0, return_counts=True)
    rim = {tuple(edge) for edge in unique[counts == 1].tolist()}
    for ring in (FACE_OVAL, RIGHT_EYE, LEFT_EYE):
        assert ring_edges(ring) <= rim
    assert len(ring_edges(INNER_LIPS) & rim) >= len(INNER_LIPS) - 4  # the corners of a mouth are a point wide
    allowed = set(FACE_OVAL) | set(RIGHT_EYE) | set(LEFT_EYE) | set(INNER_LIPS)
    assert {index for edge in rim for index in edge} <= allowed
