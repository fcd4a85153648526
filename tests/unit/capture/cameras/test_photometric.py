"""A frame on which the head cannot be aligned is left to its landmarks; it ends no capture."""

import numpy as np
import pytest

from m2dao.capture.cameras.alignment_kernel import normal_equations
from m2dao.capture.cameras.bundle import Poses
from m2dao.capture.cameras.photometric import PoseRefiner
from m2dao.capture.cameras.texture_points import TexturePoints

SIZE, FOCAL_PX, NUM_FRAMES, PROFILE = 128, 320.0, 8, 5
RANDOM = np.random.default_rng(0)
WALL = RANDOM.uniform(0, 255, (SIZE, SIZE)).astype(np.uint8)


def flat_face(num_points=400):
    """Points on a plane of 12 cm that looks at the camera."""
    points = np.concatenate([RANDOM.uniform(-0.06, 0.06, (num_points, 2)), np.zeros((num_points, 1))], axis=1)
    normals = np.tile([0.0, 0.0, -1.0], (num_points, 1))
    return TexturePoints(
        points=points,
        normals=normals,
        half=np.arange(num_points) % 2 == 0,
        rays=normals,
        freedom_m=np.zeros(num_points),
    )


def poses():
    """A metre away and still, but for one frame that is turned away from the camera."""
    rotations = np.tile(np.eye(3), (NUM_FRAMES, 1, 1))
    rotations[PROFILE] = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # a quarter turn
    return Poses(rotations=rotations, translations=np.tile([0.0, 0.0, 0.6], (NUM_FRAMES, 1)))


@pytest.fixture
def refiner():
    return PoseRefiner(flat_face(), np.zeros((478, 3)), FOCAL_PX, SIZE)


def test_a_frame_in_which_no_point_faces_the_camera_is_left_to_its_landmarks(refiner):
    found = refiner.refine(lambda index: WALL, poses(), *[np.ones(NUM_FRAMES, bool)] * 2)
    assert not found.measured[PROFILE]
    assert found.measured.sum() == NUM_FRAMES - 1
    np.testing.assert_array_equal(found.poses.rotations[PROFILE], poses().rotations[PROFILE])
    assert not found.information[PROFILE].any()


def test_the_template_is_made_of_frames_that_may_be_learned_from_and_no_others(refiner):
    asked, learned = [], np.arange(NUM_FRAMES) < 4

    def look(index):
        asked.append(int(index))
        return WALL

    refiner.refine(look, poses(), np.ones(NUM_FRAMES, bool), learned)
    assert {index: asked.count(index) for index in range(NUM_FRAMES)} == {
        index: 2 if index < 4 else 1 for index in range(NUM_FRAMES)
    }, "once for the template, once to be measured"


def test_flat_pictures_move_no_pose(refiner):
    grey = np.full_like(WALL, 127)
    found = refiner.refine(lambda index: grey, poses(), *[np.ones(NUM_FRAMES, bool)] * 2)
    assert not found.measured.any()
    np.testing.assert_array_equal(found.poses.rotations, poses().rotations)
    assert np.isfinite(found.information).all()


@pytest.mark.parametrize("depth_m", [0.0, -0.6, np.nan])
def test_points_that_a_step_led_behind_the_camera_do_not_count(depth_m):
    face = flat_face()
    layers = np.ones((SIZE, SIZE, 3), np.float32)
    ones, yes, shift = np.ones(len(face.points)), np.ones(len(face.points), bool), np.array([0.0, 0.0, depth_m])
    found = normal_equations(
        face.points, np.eye(3), shift, FOCAL_PX, SIZE / 2, layers, np.zeros(2), ones, ones, yes, face.half, 5.0
    )
    assert all(not part.any() for part in found[:2])
