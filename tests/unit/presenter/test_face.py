"""The face's grid and what its controls do to it."""

from __future__ import annotations

import numpy as np
import pytest

from m2dao.presenter import expressions, shape
from m2dao.presenter.people import get_person, persons

NAMES = persons()


@pytest.fixture(scope="module", params=NAMES)
def face(request):
    person = get_person(request.param)
    grid = shape.build_grid(person)
    return person, grid, dict(zip(expressions.CONTROLS, expressions.build_fields(grid, person), strict=True))


def test_the_resting_face_is_closed_symmetric_and_of_human_size(face):
    _, grid, _ = face
    assert np.isfinite(grid.points).all()
    for upper, lower in (grid.eye_rows, grid.mouth_rows):
        assert np.array_equal(grid.points[upper], grid.points[lower])
    mirrored = grid.points[:, ::-1] * np.array([-1, 1, 1], np.float32)
    assert np.abs(mirrored - grid.points).max() < 1e-5
    head = grid.points[(grid.points[..., 1] < 0.09)]
    width, height, depth = np.ptp(head, axis=0)
    assert 0.14 < width < 0.18
    assert 0.20 < height < 0.24
    assert 0.18 < depth < 0.24


def test_the_nose_is_the_nearest_point_of_the_face(face):
    _, grid, _ = face
    nearest = grid.points.reshape(-1, 3)[np.argmin(grid.points[..., 2])]
    assert abs(nearest[0]) < 0.002
    assert 0.0 < nearest[1] < 0.02


def test_the_jaw_opens_the_middle_of_the_lips_and_keeps_the_corners_together(face):
    person, grid, fields = face
    upper, lower = grid.mouth_rows
    gap = np.linalg.norm(fields["jaw"][lower] - fields["jaw"][upper], axis=-1)
    x = np.abs(grid.points[upper, :, 0])
    front = grid.points[upper, :, 2] < 0
    assert gap[front & (x < 0.002)].min() > 0.012
    assert gap[(x > shape.MOUTH_HALF_WIDTH * person.mouth_width + 0.001)].max() < 1e-4


def test_the_seal_undoes_exactly_the_gap_of_the_jaw(face):
    _, grid, fields = face
    upper, lower = grid.mouth_rows
    both = fields["jaw"] + fields["seal"]
    assert np.abs(both[lower] - both[upper]).max() < 1e-6


def test_each_eye_opens_by_its_own_control_only(face):
    _, grid, fields = face
    upper, lower = grid.eye_rows
    x, front = grid.points[upper, :, 0], grid.points[upper, :, 2] < 0
    for name, sign in (("lids_left", -1.0), ("lids_right", 1.0)):
        gap = (fields[name][lower] - fields[name][upper])[:, 1]
        own = front & (np.abs(sign * x - shape.EYE_X) < 0.002)
        assert gap[own].min() > 0.007
        assert np.abs(gap[front & (sign * x < 0)]).max() == 0.0


@pytest.mark.parametrize("control", expressions.CONTROLS)
def test_controls_move_only_the_face_and_by_less_than_four_centimetres(face, control):
    _, grid, fields = face
    moved = np.linalg.norm(fields[control], axis=-1)
    assert 0.0005 < moved.max() < 0.04
    assert moved[grid.points[..., 2] > 0.062].max() < 1e-5
    assert moved[grid.points[..., 1] > 0.135].max() < 1e-5


def test_people_have_different_faces():
    one, other = (shape.build_grid(get_person(name)).points for name in NAMES[:2])
    assert np.abs(one - other).max() > 0.004
