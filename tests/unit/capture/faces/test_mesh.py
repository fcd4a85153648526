"""The face mesh: triangles, openings, mirror."""

from __future__ import annotations

import numpy as np

from m2dao.capture.faces.layout import face_layout
from m2dao.capture.faces.mesh import eye_triangles, face_triangles, mirrored_landmarks, mouth_triangles
from m2dao.regions import FACE_OVAL, INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE


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


def test_openings_are_closed_by_their_own_triangles_and_share_none_with_the_skin():
    skin = {tuple(sorted(t)) for t in face_triangles().tolist()}
    for triangles, rings in ((mouth_triangles(), (INNER_LIPS,)), (eye_triangles(), (RIGHT_EYE, LEFT_EYE))):
        assert len(triangles) >= sum(len(ring) - 4 for ring in rings)
        assert set(np.unique(triangles)) <= {index for ring in rings for index in ring}
        assert not skin & {tuple(sorted(t)) for t in triangles.tolist()}


def test_the_mirror_swaps_sides_and_undoes_itself():
    mirror = mirrored_landmarks()
    assert (mirror[mirror] == np.arange(478)).all()
    assert mirror[33] == 263
    assert mirror[61] == 291
    assert mirror[468] == 473
    assert mirror[10] == 10
    assert {mirror[i] for i in RIGHT_EYE} == set(LEFT_EYE)
    assert {mirror[i] for i in OUTER_LIPS} == set(OUTER_LIPS)
