"""What may stand behind a person, and finished pictures."""

import numpy as np
import pytest

from m2dao.errors import InputError
from m2dao.render.composite import (
    choose_background,
    fill_frame,
    finish_picture,
)

PLATE = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)


def choose(choice):
    return choose_background(choice, width=10, height=8, plate=PLATE)


def test_backgrounds_are_plate_colour_picture_or_nothing():
    assert choose(None) is PLATE
    assert choose("plate") is PLATE
    assert choose("transparent") is None
    assert choose((1, 2, 255)).shape == (8, 10, 3)
    assert (choose((1, 2, 255)) == [1, 2, 255]).all()
    assert choose(PLATE[::-1].copy()).tolist() == PLATE[::-1].tolist()


@pytest.mark.parametrize(
    "choice",
    [
        "plaid",
        (1, 2),
        (1, 2, 256),
        (0.1, 0.2, 0.3),
        np.zeros((4, 4)),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
        7,
    ],
)
def test_other_backgrounds_are_refused(choice):
    with pytest.raises(InputError, match="background"):
        choose(choice)


@pytest.mark.parametrize(("rows", "columns"), [(16, 20), (100, 20), (16, 90), (3, 4), (7, 1)])
def test_a_picture_fills_the_frame_evenly_cut(rows, columns):
    """A picture that differs only by its distance from the middle stays symmetric."""
    x, y = (np.abs(np.arange(size) - (size - 1) / 2) for size in (columns, rows))
    picture = np.repeat((x[None, :] + y[:, None]).astype(np.uint8)[..., None], 3, axis=2)
    filled = fill_frame(picture, width=10, height=8)
    assert filled.shape == (8, 10, 3)
    assert filled.dtype == np.uint8
    assert np.abs(filled.astype(int) - filled[::-1, ::-1]).max() <= 1


def test_a_finished_picture_lies_over_its_background():
    colors = np.full((1, 2, 3), [0.25, 0.5, 0.0], np.float32)
    alphas = np.array([[[0.5], [0.5]]], np.float32)
    background = np.array([[[255, 0, 100], [0, 0, 0]]], np.uint8)
    assert finish_picture(colors, alphas, background).tolist() == [[[191, 128, 50], [64, 128, 0]]]


def test_a_transparent_picture_has_straight_alpha():
    colors = np.array([[[0.25, 0.5, 0.0], [0.0, 0.0, 0.0]]], np.float32)
    alphas = np.array([[[0.5], [0.0]]], np.float32)
    assert finish_picture(colors, alphas, None).tolist() == [[[128, 255, 0, 128], [0, 0, 0, 0]]]
