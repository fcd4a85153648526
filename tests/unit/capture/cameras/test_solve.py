"""Head poses, focal length and canonical landmarks against a simulated recording whose truth is known."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from m2dao.capture.cameras.solve import CameraSolution, noise_jitter_deg, solve_cameras
from m2dao.capture.faces.rigid_shape import fit_rigid_shape
from m2dao.errors import CaptureRejected
from m2dao.timeline import split_recording
from tests.support.simulated_head import SimulatedRecording, head_shape, talking_head

NUM_FRAMES = 90


def rotation_error_deg(solution: CameraSolution, truth: SimulatedRecording) -> np.ndarray:
    """[T, 3] error of the solved rotations, without the turn common to all: "frontal" is a convention."""
    relative = Rotation.from_matrix(solution.viewmats[:, :3, :3]).inv() * Rotation.from_matrix(truth.rotations)
    return np.degrees((relative.mean().inv() * relative).as_rotvec())


def reprojected_px(viewmats: np.ndarray, K: np.ndarray, points: np.ndarray) -> np.ndarray:
    camera = points @ viewmats[:, :3, :3].transpose(0, 2, 1) + viewmats[:, None, :3, 3]
    return K[0, 0] * camera[..., :2] / camera[..., 2:] + K[:2, 2]


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@functools.cache
def seen_recording() -> tuple[SimulatedRecording, np.ndarray, tuple[np.ndarray, ...]]:
    truth = talking_head(NUM_FRAMES, seed=3)
    landmarks = truth.landmarks(noise_px=0.15, rigid_noise_px=0.35)
    return truth, landmarks, tuple(truth.frame(i) for i in range(NUM_FRAMES))


def brightness(frames):
    """Gives the brightness of a frame by its index."""
    return lambda index: cv2.cvtColor(frames[index], cv2.COLOR_RGB2GRAY)


@functools.cache
def solved_on_pictures() -> CameraSolution:
    truth, landmarks, frames = seen_recording()
    return solve_cameras(landmarks, np.ones(NUM_FRAMES, bool), truth.size, brightness(frames))


@functools.cache
def solved_by_landmarks() -> CameraSolution:
    truth, landmarks, _ = seen_recording()
    return solve_cameras(landmarks, np.ones(NUM_FRAMES, bool), truth.size)


def test_the_shape_is_that_of_the_training_part_whatever_comes_after():
    truth = talking_head(110, swing_deg=10, seed=1)
    landmarks = truth.landmarks(noise_px=0.3)
    num_learned = len(split_recording(110).train)
    another, rng = landmarks.copy(), np.random.default_rng(0)
    another[num_learned:] += 5 * rng.standard_normal(another[num_learned:].shape)
    one, other = (fit_rigid_shape(each, num_learned) for each in (landmarks, another))
    np.testing.assert_array_equal(one.rigid, other.rigid)
    np.testing.assert_array_equal(one.spread, other.spread)
    everything = [fit_rigid_shape(each).spread for each in (landmarks, another)]
    assert not np.array_equal(*everything), "or the noise would say nothing"
    solved = [solve_cameras(each, np.ones(110, bool), truth.size) for each in (landmarks, another)]
    np.testing.assert_array_equal(solved[0].rigid_landmarks, solved[1].rigid_landmarks)


def test_poses_are_recovered_from_noisy_landmarks():
    truth = talking_head(120, swing_deg=10, seed=1)
    solution = solve_cameras(truth.landmarks(noise_px=0.3), np.ones(120, bool), truth.size)
    assert rms(rotation_error_deg(solution, truth)) < 0.25
    seen = reprojected_px(solution.viewmats, solution.K, solution.canonical_landmarks)[:, solution.rigid_landmarks]
    shown = truth.landmarks()[:, solution.rigid_landmarks, :2]
    assert rms(seen - shown) < 0.15


@pytest.mark.parametrize("focal_per_size", [1.4, 2.2])
def test_focal_length_is_recovered_when_perspective_shows_it(focal_per_size):
    truth = talking_head(120, size=512, focal_px=512 * focal_per_size, eye_px=190, swing_deg=15, seed=2)
    solution = solve_cameras(truth.landmarks(noise_px=0.1), np.ones(120, bool), 512)
    assert solution.K[0, 0] == pytest.approx(512 * focal_per_size, rel=0.12)


def test_head_space_follows_its_conventions():
    solution = solved_by_landmarks()
    canonical = solution.canonical_landmarks
    assert np.linalg.norm(canonical[33] - canonical[263]) == pytest.approx(0.09, rel=1e-4)
    assert np.abs(canonical[solution.rigid_landmarks].mean(axis=0)).max() < 2e-4
    across = canonical[263] - canonical[33]
    assert across[0] > 0
    assert np.abs(across[1:]).max() < 1e-4
    assert canonical[152, 1] > canonical[10, 1]  # chin below forehead, y down
    assert canonical[4, 2] < canonical[[234, 454], 2].min()  # nose tip nearer than the sides
    assert np.allclose(solution.K[:2, 2], 128)
    assert np.allclose(solution.viewmats[:, 3], [0, 0, 0, 1])
    assert (solution.viewmats[:, 2, 3] > 0.1).all()


def test_canonical_landmarks_have_the_shape_of_the_head():
    true_shape = head_shape()
    canonical = solved_on_pictures().canonical_landmarks
    a, b = true_shape - true_shape.mean(axis=0), canonical - canonical.mean(axis=0)
    rotation, _ = Rotation.align_vectors(a, b)
    assert rms(rotation.apply(b) - a) < 0.0012  # metres


def test_pictures_make_poses_several_times_more_precise_than_landmarks():
    truth, _, _ = seen_recording()
    shown = truth.landmarks()[..., :2]

    def motion_error_px(solution):
        error = reprojected_px(solution.viewmats, solution.K, solution.canonical_landmarks) - shown
        return rms(error - error.mean(axis=0))

    assert motion_error_px(solved_on_pictures()) < 0.08
    assert motion_error_px(solved_on_pictures()) < motion_error_px(solved_by_landmarks()) / 3
    assert solved_on_pictures().measured_on_picture.all()


def test_without_anything_around_the_face_poses_are_those_of_the_face():
    truth, landmarks, frames = seen_recording()
    nothing = np.zeros((truth.size, truth.size, 4), np.uint8)
    solution = solve_cameras(
        landmarks, np.ones(NUM_FRAMES, bool), truth.size, brightness(frames), masks=lambda index: nothing
    )
    assert np.array_equal(solution.viewmats, solved_on_pictures().viewmats)


def test_jitter_left_in_the_rotations_is_small_and_reported_in_the_right_size():
    truth, _, _ = seen_recording()
    error = np.radians(rotation_error_deg(solved_on_pictures(), truth))
    true_jitter = noise_jitter_deg(error, np.ones(NUM_FRAMES, bool))
    assert true_jitter < 0.05
    reported = solved_on_pictures().pose_jitter_deg
    assert 0.3 * true_jitter < reported < 3 * true_jitter
    assert solved_on_pictures().second_difference_deg > reported


def test_a_sudden_nod_is_neither_flattened_nor_delayed():
    truth = talking_head(60, swing_deg=0.5, seed=5)
    nod = np.zeros((60, 3))
    nod[30:36, 0] = np.radians([2.0, 5.0, 6.0, 5.0, 3.0, 1.0])
    rotations = (Rotation.from_rotvec(nod) * Rotation.from_matrix(truth.rotations)).as_matrix()
    truth = SimulatedRecording(**{**truth.__dict__, "rotations": rotations})
    landmarks = truth.landmarks(noise_px=0.15, rigid_noise_px=0.3)
    solution = solve_cameras(landmarks, np.ones(60, bool), truth.size, brightness([truth.frame(i) for i in range(60)]))
    assert np.abs(rotation_error_deg(solution, truth)[28:38]).max() < 0.4


def test_talking_does_not_move_the_head():
    truth = talking_head(150, seed=4)
    opening = 0.02 * np.abs(np.sin(np.arange(150) / 3))
    solution = solve_cameras(truth.landmarks(noise_px=0.2, mouth_opening=opening), np.ones(150, bool), truth.size)
    assert head_shape()[solution.rigid_landmarks, 1].max() < 0.04  # nothing of lower lip and chin carries the pose
    assert rms(rotation_error_deg(solution, truth)) < 0.3


def test_frames_without_a_face_are_interpolated():
    truth, landmarks, frames = seen_recording()
    valid = np.ones(NUM_FRAMES, bool)
    valid[[0, 40, 41, 42]] = False
    broken = landmarks.copy()
    broken[~valid] = np.nan
    solution = solve_cameras(broken, valid, truth.size, brightness(frames))
    assert np.isfinite(solution.viewmats).all()
    assert np.isfinite(solution.canonical_landmarks).all()
    assert np.abs(rotation_error_deg(solution, truth)[~valid]).max() < 1.0
    assert not solution.measured_on_picture[~valid].any()


def test_a_frame_that_does_not_show_the_face_falls_back_on_landmarks():
    truth, landmarks, frames = seen_recording()
    hidden = list(frames)
    hidden[50] = np.random.default_rng(0).integers(0, 255, frames[50].shape, dtype=np.uint8)
    solution = solve_cameras(landmarks, np.ones(NUM_FRAMES, bool), truth.size, brightness(hidden))
    assert not solution.measured_on_picture[50]
    assert solution.measured_on_picture.sum() == NUM_FRAMES - 1
    assert np.abs(rotation_error_deg(solution, truth)[50]).max() < 0.6


def test_too_few_faces_are_rejected_with_the_counts():
    valid = np.zeros(40, bool)
    valid[:4] = True
    with pytest.raises(CaptureRejected, match="at least 5 frames.*got 4"):
        solve_cameras(np.zeros((40, 478, 3), np.float32), valid, 256)


def test_landmarks_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="expected shape"):
        solve_cameras(np.zeros((10, 468, 3), np.float32), np.ones(10, bool), 256)
