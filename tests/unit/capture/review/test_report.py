"""The pictures of the quality report."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from m2dao.capture.review.report import (
    MESH_COLOUR,
    REGION_COLOURS,
    PlotData,
    SheetFrame,
    contact_sheet,
    mesh_overlay,
    plots,
    region_overlay,
)
from tests.support.simulated_head import talking_head

TRUTH = talking_head(3)
K = np.array([[TRUTH.focal_px, 0, 128], [0, TRUTH.focal_px, 128], [0, 0, 1]])


def viewmat(index: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = TRUTH.rotations[index], TRUTH.translations[index]
    return matrix


def sheet_frame(index: int) -> SheetFrame:
    masks = np.zeros((256, 256, 4), np.uint8)
    masks[100:150, 100:150, 0] = 255
    return SheetFrame(
        index=index, rgb=TRUTH.frame(index), masks=masks, landmarks=TRUTH.landmarks()[index], viewmat=viewmat(index)
    )


def test_regions_are_tinted_in_their_colours_and_the_background_is_darkened():
    rgb, masks = np.full((8, 8, 3), 100, np.uint8), np.zeros((8, 8, 4), np.uint8)
    masks[:, :4, 0], masks[:, 4:6, 3] = 255, 255
    drawn = region_overlay(rgb, masks).astype(float)
    facial, torso = (np.array(REGION_COLOURS[name]) for name in ("facial", "torso"))
    np.testing.assert_allclose(drawn[0, 0], 45 + 0.55 * facial, atol=1.5)
    np.testing.assert_allclose(drawn[0, 5], 45 + 0.55 * torso, atol=1.5)
    assert (drawn[:, 6:] < 100).all()


def test_the_mesh_is_drawn_where_the_landmarks_are_seen():
    black = np.zeros((256, 256, 3), np.uint8)
    drawn = mesh_overlay(black, TRUTH.shape, viewmat(1), K)
    lit = drawn[..., 1] > 0.3 * MESH_COLOUR[1]
    pixels = TRUTH.landmarks()[1, :468, :2]
    nearest = cv2.distanceTransform((~lit).astype(np.uint8), cv2.DIST_L2, 5)
    assert nearest[pixels[:, 1].astype(int), pixels[:, 0].astype(int)].max() <= 1.5
    assert not lit[:, : int(pixels[:, 0].min()) - 3].any()


def test_a_contact_sheet_has_a_row_per_frame_and_one_for_the_plate():
    frames = [sheet_frame(0), sheet_frame(2)]
    sheet = contact_sheet(frames, canonical_landmarks=TRUTH.shape, K=K, tile=64)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 * (64 + 20), 5 * 64, 3)
    plate = np.full((256, 256, 3), 200, np.uint8)
    with_plate = contact_sheet(frames, canonical_landmarks=TRUTH.shape, K=K, plate=plate, tile=64)
    assert with_plate.shape[0] == 3 * (64 + 20)
    np.testing.assert_array_equal(with_plate[: len(sheet)], sheet)
    assert (with_plate[-64:, :64] == 200).all()
    assert not with_plate[-64:, 64:].any()


def test_a_contact_sheet_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        contact_sheet([], canonical_landmarks=TRUTH.shape, K=K)


@pytest.mark.parametrize("with_lag", [False, True])
def test_plots_are_a_png_that_shows_gaps(with_lag):
    num_frames = 50
    valid = np.ones(num_frames, bool)
    viewmats = np.repeat(viewmat(0)[None], num_frames, axis=0)
    lag = {"lag_frames": np.arange(-5, 6), "lag_correlation": np.cos(np.arange(-5, 6) / 4), "sync_offset_frames": 1.0}

    def picture(valid):
        data = PlotData(
            viewmats=viewmats,
            valid=valid,
            lip_opening=np.linspace(0, 0.2, num_frames),
            blink=np.zeros((num_frames, 2)),
            **(lag if with_lag else {}),
        )
        decoded = cv2.imdecode(np.frombuffer(plots(data, title="somebody"), np.uint8), cv2.IMREAD_COLOR)
        return decoded[..., ::-1].astype(int)

    whole = picture(valid)
    valid[20:30] = False
    broken = picture(valid)
    assert whole.shape == broken.shape
    assert whole.shape[1] > 600

    def shaded(image):  # the light red of a gap
        return int(
            ((image[..., 0] > 240) & (np.abs(image[..., 1] - 204) < 12) & (np.abs(image[..., 2] - 204) < 12)).sum()
        )

    assert shaded(broken) > shaded(whole) + 5000


def test_plots_do_not_touch_the_global_plotting_state():
    import matplotlib.pyplot as pyplot

    before = pyplot.get_fignums()
    plots(PlotData(viewmats=np.eye(4)[None], valid=np.ones(1, bool), lip_opening=np.zeros(1), blink=np.zeros((1, 2))))
    assert pyplot.get_fignums() == before
