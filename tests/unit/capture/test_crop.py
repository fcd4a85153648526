"""The square: fixed, inside the picture, around the face in every frame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2dao.capture.crop import Crop, choose_crop
from m2dao.errors import CaptureRejected


def faces_at(centres, height):
    """Landmarks [T, 478, 3] filling boxes 0.8 height wide and `height` high around `centres` [T, 2]."""
    rng = np.random.default_rng(0)
    unit = rng.uniform(-0.5, 0.5, (478, 2)) * [0.8, 1.0]
    unit[0], unit[1] = [-0.4, -0.5], [0.4, 0.5]
    points = np.asarray(centres, float)[:, None] + unit * height
    return np.concatenate([points, np.zeros((len(points), 478, 1))], -1).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(300, 4000),
    height=st.integers(300, 4000),
    share=st.floats(0.1, 0.6),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    sway=st.floats(0, 0.2),
)
def test_it_lies_inside_the_picture_and_holds_the_face_in_every_frame(width, height, share, x, y, sway):
    face = share * min(width, height)
    phase = np.linspace(0, 6, 50)
    half_x, half_y = 0.4 * face + sway * face, 0.5 * face + sway * face
    centre = np.array([half_x + x * (width - 2 * half_x), half_y + y * (height - 2 * half_y)])
    centres = centre + sway * face * np.stack([np.sin(phase), np.cos(phase)], -1)
    landmarks = faces_at(centres, face)
    crop = choose_crop(landmarks, np.ones(50, bool), width=width, height=height, size=512)
    assert crop.x >= 0
    assert crop.y >= 0
    assert crop.x + crop.side <= width
    assert crop.y + crop.side <= height
    inside = crop.landmarks(landmarks)[..., :2]
    assert inside.min() >= -0.02 * 512
    assert inside.max() <= 1.02 * 512


def test_it_shows_head_and_shoulders_where_the_picture_does():
    crop = choose_crop(faces_at([[960, 540]] * 10, 300), np.ones(10, bool), width=1920, height=1080, size=512)
    assert crop.side == 720
    above, below = (540 - 150 - crop.y) / 300, (crop.y + crop.side - 690) / 300
    assert above > 0.5  # hair
    assert below > 0.7  # neck and shoulders


def test_frames_without_a_face_do_not_count():
    landmarks = faces_at([[400, 400]] * 9 + [[5000, 5000]], 200)
    crop = choose_crop(landmarks, np.arange(10) < 9, width=800, height=800, size=256)
    assert crop.x + crop.side <= 800


def test_a_face_that_wanders_over_a_wide_picture_is_refused():
    landmarks = faces_at([[200 + 160 * i, 360] for i in range(10)], 300)
    with pytest.raises(CaptureRejected, match="moves over"):
        choose_crop(landmarks, np.ones(10, bool), width=1920, height=720, size=512)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.37])
def test_landmarks_and_pixels_are_cut_alike_at_any_decoding_scale(scale):
    import cv2

    picture = np.zeros((600, 800, 3), np.uint8)
    cv2.circle(picture, (431, 287), 9, (255, 255, 255), -1, cv2.LINE_AA)
    crop = Crop(x=211.0, y=73.0, side=440.0, size=128, source_width=800, source_height=600)
    shown = cv2.resize(picture, (round(800 * scale), round(600 * scale)), interpolation=cv2.INTER_AREA)
    square = crop.cut(shown).astype(float).mean(-1)
    assert square.shape == (128, 128)
    rows, columns = np.mgrid[:128, :128] + 0.5
    centre = [(square * columns).sum() / square.sum(), (square * rows).sum() / square.sum()]
    expected = crop.landmarks(np.array([[431.5, 287.5, 0.0]]))[0, :2]
    np.testing.assert_allclose(centre, expected, atol=0.15)


def test_a_crop_at_full_size_copies_pixels():
    picture = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    crop = Crop(x=30.0, y=20.0, side=128.0, size=128, source_width=400, source_height=300)
    np.testing.assert_array_equal(crop.cut(picture), picture[20:148, 30:158])
    assert crop.decode_side() is None
