"""The clean background plate."""

from __future__ import annotations

import numpy as np
import pytest

from m2dao.capture.regions.plate import PlateBuilder
from m2dao.errors import CaptureRejected

SIDE = 96


def wall() -> np.ndarray:
    y, x = np.indices((SIDE, SIDE))
    return np.stack([60 + x, 80 + y, 120 + (x + y) // 2], axis=-1).astype(np.float64)


def frame_with_person(left: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The wall with noise, and a red person 30 px wide standing at ``left``."""
    picture = wall() + random.normal(0, 6, (SIDE, SIDE, 3))
    masks = np.zeros((SIDE, SIDE, 4), np.uint8)
    picture[30:, left : left + 30] = (250, 0, 0)
    masks[30:, left : left + 30, 3] = 255
    return np.clip(picture, 0, 255).astype(np.uint8), masks


def test_what_was_seen_behind_a_moving_person_is_the_mean_of_the_background():
    random, builder = np.random.default_rng(0), PlateBuilder()
    for step in range(120):
        builder.add(*frame_with_person(5 + step // 2, random))
    error = builder.finish().astype(float) - wall()
    assert builder.seen.mean() > 0.98
    assert np.abs(error[builder.seen]).mean() < 1.0


def test_what_was_never_seen_is_filled_smoothly_from_around():
    random, builder = np.random.default_rng(0), PlateBuilder()
    for _ in range(40):
        builder.add(*frame_with_person(33, random))
    plate = builder.finish().astype(float)
    hidden = ~builder.seen
    assert hidden[50, 48]
    assert not hidden[50, 10]
    assert plate[hidden][:, 0].max() < 190  # nothing of the red person
    assert np.abs(plate - wall())[hidden].mean() < 25
    assert np.abs(np.diff(plate[50], axis=0)).max() < 16  # no seam


def test_what_another_shot_saw_stands_in_where_this_one_saw_nothing():
    random, here, elsewhere = np.random.default_rng(0), PlateBuilder(), PlateBuilder()
    for _ in range(40):
        here.add(*frame_with_person(33, random))
        picture, masks = frame_with_person(60, random)
        elsewhere.add(np.minimum(picture, 200) // 2, masks)  # in other light
    plate, alone = here.finish(elsewhere).astype(float), here.finish().astype(float)
    hidden = ~here.seen & elsewhere.seen
    assert hidden.sum() > 500
    assert np.abs(plate - wall() / 2)[hidden].mean() < 3
    assert np.array_equal(plate[here.seen], alone[here.seen])


def test_loose_edges_of_the_person_do_not_leak_in():
    random, builder = np.random.default_rng(0), PlateBuilder()
    for _ in range(20):
        picture, masks = frame_with_person(33, random)
        picture[30:, 32] = (250, 0, 0)  # one pixel that the mask missed
        builder.add(picture, masks)
    assert np.abs(builder.finish().astype(float) - wall())[:, :32].max() < 12


def test_memory_does_not_grow_with_the_recording():
    random, builder = np.random.default_rng(0), PlateBuilder()
    picture, masks = frame_with_person(33, random)
    builder.add(picture, masks)
    held = {name: np.asarray(value).nbytes for name, value in vars(builder).items()}
    for _ in range(50):
        builder.add(picture, masks)
    assert {name: np.asarray(value).nbytes for name, value in vars(builder).items()} == held


def test_a_picture_full_of_person_gives_a_grey_plate():
    builder = PlateBuilder()
    builder.add(np.full((SIDE, SIDE, 3), 200, np.uint8), np.full((SIDE, SIDE, 4), 63, np.uint8))
    assert (builder.finish() == 127).all()


def test_a_plate_of_nothing_is_refused():
    with pytest.raises(CaptureRejected, match="background plate"):
        PlateBuilder().finish()
