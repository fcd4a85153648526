"""Seeds find the depth that frames of other poses agree with."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from m2dao.gaussians.sweep import sweep_depths
from m2dao.gaussians.views import SeedView, project, unproject

SIZE, DISTANCE_M, WALL_M = 96, 0.8, 0.03  # a wall behind the head's origin
K = np.array([[200.0, 0, SIZE / 2], [0, 200.0, SIZE / 2], [0, 0, 1]])
TURNS = [(0, 0), (0, 25), (0, -25), (20, 0), (-20, 0), (10, 15), (-10, 15)]  # degrees of nod and turn


def viewmat(nod, turn):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xy", [nod, turn], degrees=True).as_matrix()
    matrix[2, 3] = DISTANCE_M
    return matrix


def pixels_of(rows, cols):
    return np.stack([cols.ravel() + 0.5, rows.ravel() + 0.5], axis=-1).astype(float)


def view_of_wall(nod, turn, texture, masks):
    """What a camera sees of a textured wall: a pixel's ray meets it where the front view knows its colour."""
    view = viewmat(nod, turn)
    rows, cols = np.mgrid[:SIZE, :SIZE]
    rays = unproject(pixels_of(rows, cols), np.ones(SIZE * SIZE), K) @ view[:3, :3]
    center = -view[:3, :3].T @ view[:3, 3]
    points = center + rays * ((WALL_M - center[2]) / rays[:, 2])[:, None]
    seen = (project(points, viewmat(0, 0), K).astype(np.float32) - 0.5).reshape(SIZE, SIZE, 2)
    sample = [cv2.remap(image, seen, None, cv2.INTER_LINEAR) for image in (texture, masks)]
    return SeedView(rgb=sample[0], masks=sample[1], viewmat=view)


@pytest.fixture(scope="module")
def views():
    noise = np.random.default_rng(0).random((SIZE, SIZE, 3)).astype(np.float32)
    texture = np.clip(4 * (cv2.GaussianBlur(noise, (0, 0), 2.0) - 0.5) + 0.5, 0, 1)
    return [view_of_wall(nod, turn, texture, np.full((SIZE, SIZE, 4), 0.25, np.float32)) for nod, turn in TURNS]


@pytest.mark.parametrize("error_m", [-0.03, 0.0, 0.02])
def test_a_wrong_depth_is_put_right(views, error_m):
    pixels = pixels_of(*np.mgrid[30:66:3, 30:66:3])
    truth = np.full(len(pixels), DISTANCE_M + WALL_M)
    found = sweep_depths(pixels, truth + error_m, np.full(len(pixels), 0.04), views[0], views[1:], K)
    assert np.abs(found - truth).max() < 0.008, "a step of the sweep is 7 mm"


def test_nothing_is_moved_further_than_it_is_free_to(views):
    pixels = pixels_of(*np.mgrid[30:66:6, 30:66:6])
    guess = np.full(len(pixels), DISTANCE_M)
    found = sweep_depths(pixels, guess, np.full(len(pixels), 0.01), views[0], views[1:], K)
    assert np.abs(found - guess).max() <= 0.01 + 1e-9
    assert (found > guess + 0.005).all()


def test_without_other_poses_the_guess_stays(views):
    pixels = pixels_of(*np.mgrid[40:50:5, 40:50:5])
    guess = np.linspace(0.7, 0.9, len(pixels))
    np.testing.assert_array_equal(sweep_depths(pixels, guess, np.full(len(pixels), 0.05), views[0], [], K), guess)
    far = sweep_depths(pixels, guess, np.full(len(pixels), 0.0), views[0], views[1:], K)
    assert np.isfinite(far).all()


def test_a_point_must_lie_within_every_silhouette():
    """Of one colour there is nothing to compare but outlines."""
    grey = np.full((SIZE, SIZE, 3), 0.5, np.float32)
    disc = np.zeros((SIZE, SIZE, 4), np.float32)
    disc[..., 0] = cv2.circle(np.zeros((SIZE, SIZE), np.float32), (48, 48), 20, 1.0, -1)
    views = [view_of_wall(nod, turn, grey, disc) for nod, turn in TURNS]
    rim = [
        (48 + 18 * np.cos(angle), 48 + 18 * np.sin(angle)) for angle in np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ]
    guess = np.full(len(rim), DISTANCE_M + WALL_M + 0.04)
    found = sweep_depths(np.array(rim), guess, np.full(len(rim), 0.05), views[0], views[1:], K)
    assert np.abs(np.median(found) - DISTANCE_M - WALL_M) < 0.02
