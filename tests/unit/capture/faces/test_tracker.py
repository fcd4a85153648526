"""The tracker finds the face wherever it is put, and says so when it is gone."""

import cv2
import numpy as np
import pytest

from m2dao.capture.faces.models import BLENDSHAPE_INPUT, BLENDSHAPE_NAMES, FaceRoi, crop_roi
from m2dao.capture.faces.tracker import FaceTracker
from tests.support.recordings import portrait


@pytest.fixture(scope="module")
def upright():
    return FaceTracker().track(portrait(400))


def placed(matrix, size=(640, 480)):
    return cv2.warpAffine(portrait(400), matrix, size, flags=cv2.INTER_AREA, borderValue=(120, 120, 120))


@pytest.mark.parametrize(("angle", "scale"), [(0, 1.0), (25, 0.8), (-40, 0.7), (15, 0.5)])
def test_landmarks_follow_rotation_scale_and_place(upright, angle, scale):
    matrix = cv2.getRotationMatrix2D((200, 200), angle, scale)
    matrix[:, 2] += [130, 40]
    found = FaceTracker().track(placed(matrix))
    # continuous pixel coordinates: the warp acts on pixel centres
    expected = (upright.landmarks[:, :2] - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
    error = np.linalg.norm(found.landmarks[:, :2] - expected, axis=1) / (scale * np.ptp(upright.landmarks[:, 1]))
    assert np.median(error) < 0.02
    assert found.num_faces == 1
    assert found.score > 0.9


def test_a_small_face_in_a_large_picture_is_found_by_tiles():
    picture = np.full((1000, 1000, 3), 120, np.uint8)
    picture[620:760, 700:840] = portrait(140)
    found = FaceTracker().track(picture)
    assert found is not None
    assert 700 < found.box[0] < found.box[2] < 840


def test_no_face_is_none_and_the_face_is_found_again_after_a_loss():
    tracker = FaceTracker()
    blank = np.full((400, 400, 3), 120, np.uint8)
    assert tracker.track(blank) is None
    assert tracker.track(portrait(400)) is not None
    assert tracker.track(blank) is None
    assert tracker.track(portrait(400)) is not None


def test_a_second_face_is_counted_at_the_next_count():
    two = np.concatenate([portrait(400), cv2.flip(portrait(400), 1)], axis=1)
    one = np.concatenate([portrait(400), np.full((400, 400, 3), 120, np.uint8)], axis=1)
    tracker = FaceTracker(count_every=3)
    assert [tracker.track(frame).num_faces for frame in (one, one, two, two, two)] == [1, None, None, 2, None]


def test_the_mirrored_face_has_mirrored_blendshapes(upright):
    mirrored = FaceTracker().track(np.ascontiguousarray(portrait(400)[:, ::-1]))
    value = dict(zip(BLENDSHAPE_NAMES, upright.blendshapes, strict=True))
    other = dict(zip(BLENDSHAPE_NAMES, mirrored.blendshapes, strict=True))
    for name in ("mouthSmileLeft", "eyeSquintLeft", "mouthUpperUpLeft"):
        assert other[name.replace("Left", "Right")] == pytest.approx(value[name], abs=0.2)
    assert len(BLENDSHAPE_NAMES) == 52
    assert len(BLENDSHAPE_INPUT) == 146


@pytest.mark.parametrize("side", [60.0, 256.0, 600.0])
def test_a_region_is_cut_at_the_exact_place_at_any_scale(side):
    rows, columns = np.mgrid[:1000, :1000].astype(np.float32) + 0.5
    picture = np.stack([columns / 4, rows / 4, np.zeros_like(rows)], -1)
    roi = FaceRoi(510.0, 470.0, side, 0.3)
    cut = crop_roi(picture, roi, 64)
    grid = (np.arange(64) + 0.5) / 64
    u, v = np.meshgrid(grid, grid)
    expected = np.stack([u, v, np.ones_like(u)], -1) @ roi.corner_map().T
    inside = np.abs(cut[..., :2] * 4 - expected)[4:-4, 4:-4]
    assert inside.max() < 0.51
    assert inside.mean() < 0.1
