"""Smoothing of head motion: noise goes, motion stays."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from m2dao.capture.cameras.bundle import Poses
from m2dao.capture.cameras.smoothing import motion_statistics, smooth_poses, third_differences
from m2dao.capture.rotations import interpolate_rotations, turns_between

JERK = np.array([3e-3] * 3 + [1.5e-4] * 3)


def matrices(vectors):
    return Rotation.from_rotvec(vectors).as_matrix()


def poses_of(vectors: np.ndarray) -> Poses:
    return Poses(rotations=matrices(vectors[:, :3]), translations=vectors[:, 3:])


def slow_motion(num_frames: int) -> np.ndarray:
    time_s = np.arange(num_frames)[:, None] / 25
    return np.sin(2 * np.pi * 0.4 * time_s + np.arange(6)) * np.array([0.1] * 3 + [0.01] * 3)


def test_white_noise_is_reduced_and_the_motion_is_kept():
    truth, random = slow_motion(300), np.random.default_rng(0)
    sigma = np.array([5e-3] * 3 + [3e-4] * 3)
    noisy = poses_of(truth + random.normal(size=truth.shape) * sigma)
    information = np.broadcast_to(np.diag(sigma**-2.0), (300, 6, 6))
    smooth = smooth_poses(noisy, information, JERK).poses
    error = (Rotation.from_matrix(smooth.rotations) * Rotation.from_rotvec(truth[:, :3]).inv()).as_rotvec()
    assert error.std() < 0.6 * 5e-3
    assert np.abs(np.diff(error, 2, axis=0)).mean() < 0.15 * np.sqrt(6) * 5e-3
    assert (smooth.translations - truth[:, 3:]).std() < 0.6 * 3e-4


def test_exact_measurements_are_left_alone():
    truth = poses_of(slow_motion(50))
    smooth = smooth_poses(truth, np.broadcast_to(np.eye(6) * 1e14, (50, 6, 6)), JERK).poses
    assert np.abs(smooth.rotations - truth.rotations).max() < 1e-6


def test_unmeasured_frames_are_bridged_by_the_motion_around_them():
    truth = slow_motion(80)
    measured = truth.copy()
    measured[40:44] = 0.0
    information = np.broadcast_to(np.diag(np.array([1e-4] * 3 + [1e-5] * 3) ** -2.0), (80, 6, 6)).copy()
    information[40:44] = 0.0
    smooth = smooth_poses(poses_of(measured), information, JERK).poses
    error = (Rotation.from_matrix(smooth.rotations) * Rotation.from_rotvec(truth[:, :3]).inv()).as_rotvec()
    assert np.abs(error[40:44]).max() < 2e-3


def test_a_cut_does_not_bleed_into_the_frames_beside_it():
    truth = slow_motion(100)
    truth[50:] += 0.2
    information = np.broadcast_to(np.diag(np.array([1e-3] * 3 + [1e-4] * 3) ** -2.0), (100, 6, 6))
    smooth = smooth_poses(poses_of(truth), information, JERK).poses
    error = (Rotation.from_matrix(smooth.rotations) * Rotation.from_rotvec(truth[:, :3]).inv()).as_rotvec()
    assert np.abs(error).max() < 1e-3


def test_noise_beside_a_jump_is_smoothed_as_elsewhere_when_the_jump_is_known():
    sigma = np.array([5e-3] * 3 + [3e-4] * 3)
    information = np.broadcast_to(np.diag(sigma**-2.0), (200, 6, 6))

    def error_at_the_jump(jumps, seed):
        truth = slow_motion(200)
        truth[100:] += 0.003  # ten times the noise of a position, and too small to stand out from the motion
        noisy = poses_of(truth + np.random.default_rng(seed).normal(size=truth.shape) * sigma)
        smooth = smooth_poses(noisy, information, JERK, jumps=jumps).poses
        return np.abs((smooth.translations - truth[:, 3:])[96:104]).mean()

    known, unknown = (np.mean([error_at_the_jump(jumps, seed) for seed in range(4)]) for jumps in ([100], []))
    assert known < 0.6 * unknown


def test_noise_passes_through_the_filter_as_it_does_with_the_motion():
    random = np.random.default_rng(1)
    truth, sigma = slow_motion(200), np.array([2e-3] * 3 + [1e-4] * 3)
    noise = random.normal(size=truth.shape) * sigma
    information = np.broadcast_to(np.diag(sigma**-2.0), (200, 6, 6))
    result = smooth_poses(poses_of(truth + noise), information, JERK, noise=noise)
    error = result.poses.translations - truth[:, 3:]
    assert (
        np.abs(np.diff(result.remaining_noise[:, 3:], 2, axis=0)).mean()
        < 0.3 * np.abs(np.diff(noise[:, 3:], 2, axis=0)).mean()
    )
    assert np.corrcoef(error.ravel(), result.remaining_noise[:, 3:].ravel())[0, 1] > 0.8


def test_statistics_tell_noise_from_motion():
    random = np.random.default_rng(2)
    sigma = np.array([2e-3, 4e-3, 1e-3, 2e-4, 2e-4, 1e-3])
    noisy = poses_of(slow_motion(2000) + random.normal(size=(2000, 6)) * sigma)
    found = motion_statistics(noisy, np.ones(2000, bool))
    np.testing.assert_allclose(np.sqrt(np.diag(found.noise_covariance)), sigma, rtol=0.25)


def test_third_differences_vanish_for_motion_of_constant_acceleration():
    t = np.arange(30.0)[:, None]
    vectors = 1e-4 * t**2 * np.array([1.0, 0, 0, 1, -1, 2]) + 1e-3 * t * np.array([1.0, 0, 0, 0, 1, 0])
    assert np.abs(third_differences(poses_of(vectors))).max() < 1e-12


def test_turns_lead_from_each_rotation_to_the_next():
    rotations = matrices(np.random.default_rng(3).uniform(-0.5, 0.5, size=(50, 3)))
    turned = matrices(turns_between(rotations)) @ rotations[:-1]
    np.testing.assert_allclose(turned, rotations[1:], atol=1e-12)
    assert turns_between(rotations[:1]).shape == (0, 3)


def test_one_known_rotation_is_held_everywhere():
    rotations = matrices(np.random.default_rng(4).normal(size=(5, 3)))
    held = interpolate_rotations(rotations, np.arange(5) == 2)
    np.testing.assert_array_equal(held, np.repeat(rotations[2:3], 5, axis=0))


def test_gaps_are_filled_along_the_shortest_arc_and_ends_are_held():
    vectors = np.zeros((7, 3))
    vectors[:, 1] = [9.0, 0.0, 9.0, 9.0, 0.3, 0.4, 9.0]
    valid = np.array([False, True, False, False, True, True, False])
    filled = Rotation.from_matrix(interpolate_rotations(matrices(vectors), valid)).as_rotvec()
    np.testing.assert_allclose(filled[:, 1], [0.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.4], atol=1e-12)
