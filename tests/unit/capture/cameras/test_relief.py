"""Depths that a recording tells, where the truth is known."""

from __future__ import annotations

import numpy as np

from m2dao.capture.cameras.relief import find_shifts

NUM_FRAMES = 24


def bumpy_surface():
    """Points on a plane [S, 3], their rays [S, 3], and how far behind it their surface lies [S]."""
    axis = np.linspace(-0.06, 0.06, 30)
    points = np.concatenate([np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), np.zeros((900, 1))], axis=1)
    behind = 0.01 * np.cos(20 * points[:, 0]) * np.cos(25 * points[:, 1])
    return points, np.tile([0.0, 0.0, 1.0], (900, 1)), behind


def looked_at(behind, seen_share=1.0, seed=0):
    """What frames turned by up to 0.3 show of points: at a wrong depth a point slides over the texture."""
    random = np.random.default_rng(seed)
    turns = random.uniform(-0.3, 0.3, (NUM_FRAMES, 2))
    waves, phases = random.normal(0, 250, (40, 2)), random.uniform(0, 2 * np.pi, 40)

    def look(points):
        slid = points[None, :, :2] + turns[:, None] * (points[:, 2] - behind)[None, :, None]
        brightness = np.sin(slid @ waves.T + phases).sum(axis=-1) / 5
        return brightness, random.random(brightness.shape) < seen_share

    return look


def test_points_move_to_where_the_surface_is():
    points, rays, behind = bumpy_surface()
    shifts = find_shifts(points, rays, np.full(900, 0.02), looked_at(behind), 15)
    assert np.abs(shifts - behind).max() < 0.003
    assert np.sqrt(np.mean((shifts - behind) ** 2)) < 0.15 * np.sqrt(np.mean(behind**2))


def test_frames_that_do_not_see_a_point_do_not_count():
    points, rays, behind = bumpy_surface()
    shifts = find_shifts(points, rays, np.full(900, 0.02), looked_at(behind, seen_share=0.5), 15)
    assert np.sqrt(np.mean((shifts - behind) ** 2)) < 0.2 * np.sqrt(np.mean(behind**2))


def test_points_that_nobody_sees_stay():
    points, rays, behind = bumpy_surface()
    shifts = find_shifts(points, rays, np.full(900, 0.02), looked_at(behind, seen_share=0.0), 15)
    assert np.abs(shifts).max() < 1e-9


def test_a_point_without_freedom_stays():
    points, rays, behind = bumpy_surface()
    assert not find_shifts(points, rays, np.zeros(900), looked_at(behind), 9).any()
