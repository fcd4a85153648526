"""Where on a head poses are measured."""

from __future__ import annotations

import numpy as np
import pytest

from m2dao.capture.cameras.texture_points import below_brows, face_points, head_points
from m2dao.gaussians.views import project
from m2dao.regions import BETWEEN_BROWS, CHIN
from tests.support.simulated_head import head_shape

SIZE, FOCAL = 256, 500.0
POSE = np.eye(3), np.array([0.0, 0.0, 0.6])
VIEWMAT = np.concatenate([np.eye(3), [[0.0], [0.0], [0.6]]], axis=1)
K = np.array([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]])


def masks_of_a_round_head(radius_px=105, channel=2):
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    masks = np.zeros((SIZE, SIZE, 4), np.uint8)
    masks[np.hypot(x, y) < radius_px, channel] = 255
    return masks


@pytest.fixture(scope="module")
def around():
    return head_points(masks_of_a_round_head(), *POSE, FOCAL, head_shape())


def test_points_lie_around_the_face_inside_the_head_and_above_the_chin(around):
    assert len(around.points) > 300
    pixels = project(around.points, VIEWMAT, K)
    marks = project(head_shape(), VIEWMAT, K)
    assert np.hypot(*(pixels - SIZE / 2).T).max() < 105
    assert (around.points[:, 1] < head_shape()[CHIN, 1]).all()
    inside_face = (np.abs(pixels - marks.mean(axis=0)) < 0.3 * np.ptp(marks, axis=0)).all(axis=1)
    assert not inside_face.any()


def test_they_lie_behind_the_face_and_are_free_along_the_rays_they_were_seen_on(around):
    face = face_points(head_shape())
    assert around.points[:, 2].mean() > face.points[:, 2].mean() + 0.02
    assert not around.on_face.any()
    assert face.on_face.all()
    seen_from_camera = around.points + [0, 0, 0.6]
    along = np.einsum("sc,sc->s", around.rays, seen_from_camera) / np.linalg.norm(seen_from_camera, axis=1)
    assert along == pytest.approx(1.0)
    assert (around.normals[:, 2] < 0.2).all()  # none looks away from who has seen it


def test_both_halves_have_their_share(around):
    assert 0.4 < around.half.mean() < 0.6
    assert 0.4 < face_points(head_shape()).half.mean() < 0.6


def test_clothes_are_no_head():
    assert not len(head_points(masks_of_a_round_head(channel=3), *POSE, FOCAL, head_shape()).points)


def test_the_forehead_can_be_left_out():
    face = face_points(head_shape())
    rest = below_brows(face, head_shape())
    assert 0.3 * len(face.points) < len(rest.points) < 0.9 * len(face.points)
    assert (rest.points[:, 1] > head_shape()[BETWEEN_BROWS, 1]).all()


def test_points_can_be_taken_apart_and_joined(around):
    face = face_points(head_shape())
    both = face.joined(around)
    assert np.array_equal(both.take(both.on_face).points, face.points)
    assert np.array_equal(both.take(~both.on_face).normals, around.normals)
