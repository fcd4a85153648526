"""The renderer's kernels draw what geometry says."""

from __future__ import annotations

import numpy as np
import pytest

from m2dao.presenter import raster

SIDE = 34
CURVE = raster.tone_curve(1.0)


def buffers():
    made = np.empty((SIDE, SIDE), np.float32), np.empty((SIDE, SIDE, 3), np.float32), np.empty((SIDE, SIDE), np.uint8)
    raster.clear(*made)
    return made


def square(left, top, right, bottom, depth):
    """A 2x2 sheet already in samples, rows down and columns right: f32 [2, 2, 3]."""
    return np.array(
        [[[left, top, depth], [right, top, depth]], [[left, bottom, depth], [right, bottom, depth]]], np.float32
    )


def draw(sheet, color, region, into):
    shaded = np.broadcast_to(np.asarray(color, np.float32), sheet.shape).copy()
    regions = np.full(sheet.shape[:2], region, np.uint8)
    raster.draw_sheet(sheet, shaded, regions, np.zeros(len(sheet), np.uint8), *into)


def test_a_square_covers_exactly_the_samples_whose_centres_it_contains():
    into = buffers()
    draw(square(3.0, 5.0, 10.0, 9.0, 1.0), (1, 0, 0), 1, into)
    expected = np.zeros((SIDE, SIDE), np.uint8)
    expected[5:9, 3:10] = 1
    assert np.array_equal(into[2], expected)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_sheet_hides_the_farther_whatever_the_order(order):
    into = buffers()
    sheets = [(square(2, 2, 20, 20, 1.0), (1, 0, 0), 1), (square(10, 10, 30, 30, 2.0), (0, 1, 0), 2)]
    for i in order:
        draw(*sheets[i], into)
    assert into[2][15, 15] == 1
    assert into[2][25, 25] == 2
    assert into[0][15, 15] == 1.0


def test_sheets_seen_from_behind_are_not_drawn():
    into = buffers()
    draw(square(20, 2, 2, 20, 1.0), (1, 1, 1), 1, into)
    assert not into[2].any()


def test_a_skipped_row_is_a_gap():
    rows = np.array([[[2, y, 1], [20, y, 1]] for y in (2, 8, 14, 20)], np.float32)
    into = buffers()
    skip = np.array([0, 1, 0, 0], np.uint8)
    raster.draw_sheet(rows, np.ones_like(rows), np.ones(rows.shape[:2], np.uint8), skip, *into)
    assert into[2][5, 10] == 1
    assert into[2][11, 10] == 0
    assert into[2][17, 10] == 1


def test_colours_are_interpolated_linearly():
    into = buffers()
    sheet = square(0, 0, 32, 32, 1.0)
    shaded = np.zeros_like(sheet)
    shaded[:, 1] = 1.0
    raster.draw_sheet(sheet, shaded, np.ones((2, 2), np.uint8), np.zeros(2, np.uint8), *into)
    expected = (np.arange(32) + 0.5) / 32
    assert np.abs(into[1][7, :32, 0] - expected).max() < 1e-5


def test_normals_of_a_front_facing_plane_point_to_the_camera():
    x, y = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 4))
    points = np.stack([x, y, np.ones_like(x)], -1).astype(np.float32)
    normals = np.empty_like(points)
    raster.grid_normals(points, False, normals)
    assert np.allclose(normals, [0, 0, -1], atol=1e-6)


def test_skinning_blends_from_the_trunks_motion_to_the_heads():
    points = np.zeros((1, 3, 3), np.float32)
    weight = np.array([[0.0, 0.5, 1.0]], np.float32)
    head, torso = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)
    head[:3, 3] = (2, 0, 0)
    out, unused = np.empty_like(points), np.empty_like(points)
    raster.to_camera(points, points, weight, head, torso, out, unused)
    assert np.allclose(out[0, :, 0], [0.0, 1.0, 2.0])


def test_an_empty_scene_resolves_to_the_backdrop():
    backdrop = np.random.default_rng(0).uniform(0, 1, (16, 16, 3)).astype(np.float32)
    rgb, masks = np.empty((16, 16, 3), np.uint8), np.empty((16, 16, 4), np.uint8)
    _, colors, regions = buffers()
    raster.resolve(colors, regions, backdrop, CURVE, rgb, masks)
    assert np.array_equal(rgb, CURVE[(backdrop * len(CURVE) / 2).astype(int)])
    assert not masks.any()


def test_edges_resolve_to_soft_masks_and_mixed_colours():
    into = buffers()
    draw(square(0, 0, 17, 34, 1.0), (0, 0, 0), 3, into)
    rgb, masks = np.empty((16, 16, 3), np.uint8), np.empty((16, 16, 4), np.uint8)
    raster.resolve(into[1], into[2], np.ones((16, 16, 3), np.float32), CURVE, rgb, masks)
    assert masks[8, 4, 2] == 255
    assert masks[8, 12, 2] == 0
    assert 0 < masks[8, 7, 2] < 255 or 0 < masks[8, 8, 2] < 255
    assert np.all(np.diff(rgb[8, :, 0].astype(int)) >= 0)
    assert masks.astype(int).sum(-1).max() <= 255


def test_a_strand_behind_a_sheet_is_hidden_and_before_it_is_seen():
    lights = np.zeros((4, 6), np.float32)
    lights[3] = 1.0
    strand = np.array([[[-0.4, 0, 0], [0.4, 0, 0]]], np.float32)
    results = {}
    for z in (0.5, 2.0):
        into = buffers()
        draw(square(0, 0, 34, 34, 1.0), (0.5, 0.5, 0.5), 1, into)
        origin, width = np.array([[0, 0, z]], np.float32), np.ones((1, 2), np.float32)
        matrix, white, one = np.eye(4, dtype=np.float32), np.ones(3, np.float32), np.ones(1, np.float32)
        focal, centre, bias = np.float32(10.0), np.float32(17.0), np.float32(0.0)
        raster.draw_strands(origin, strand, one, white, width, 3, matrix, lights, focal, centre, bias, *into)
        results[z] = int((into[2] == 3).sum())
    assert results[2.0] == 0
    assert results[0.5] > 10
