"""Lip sync: a known lag is found, lips are predicted, and nothing is found where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from m2dao.audio.lipsync import (
    LIP_OPENING_OF_PHONE,
    SyncProbe,
    expected_lip_opening,
    held_out_correlation,
    sync_offset_and_confidence,
)
from m2dao.audio.phones import ROOT_SCALE, Phones
from m2dao.errors import InputError

NUM_FRAMES = 900
ROWS_PER_FRAME = 4


@pytest.fixture(scope="module")
def phones() -> tuple[str, ...]:
    return Phones().phones


@pytest.fixture(scope="module")
def recording(phones):
    """Phone rows of random speech and lips that follow it with a person's own habits, a trend and noise."""
    rng = np.random.default_rng(0)
    spoken = np.repeat(rng.integers(len(phones), size=NUM_FRAMES // 3), 3)  # a phone every three frames
    posteriors = np.full((NUM_FRAMES, len(phones)), 0.2 / (len(phones) - 1))
    posteriors[np.arange(NUM_FRAMES), spoken] = 0.8
    rows = ROOT_SCALE * np.sqrt(np.repeat(posteriors, ROWS_PER_FRAME, axis=0))
    typical = np.array([LIP_OPENING_OF_PHONE[name] for name in phones])
    habit = typical + 0.25 * rng.normal(size=len(phones))
    opening = np.convolve(habit[spoken], np.ones(3) / 3, mode="same")
    opening = 0.1 * opening + 0.1 * np.sin(np.arange(NUM_FRAMES) / 90) + 0.01 * rng.normal(size=NUM_FRAMES)
    return rows.astype(np.float32), opening


def later(opening: np.ndarray, num_frames: int) -> np.ndarray:
    return np.roll(opening, num_frames)


def test_every_phone_of_the_model_has_a_typical_opening(phones):
    assert set(phones) <= set(LIP_OPENING_OF_PHONE)
    rows = ROOT_SCALE * np.eye(len(phones))
    expected = expected_lip_opening(rows, phones, len(phones))
    assert expected[phones.index("AA")] > 0.9
    assert max(expected[phones.index(name)] for name in ("M", "B", "P")) == 0


@pytest.mark.parametrize("shift", [-3, 0, 3, 9])
def test_the_phone_table_finds_a_known_lag(recording, phones, shift):
    rows, opening = recording
    expected = expected_lip_opening(rows, phones, NUM_FRAMES)
    found = sync_offset_and_confidence(expected, later(opening, shift))
    assert found.sure
    assert found.offset_frames == pytest.approx(-shift, abs=0.5)  # lips that come later: sound that comes early


@pytest.mark.parametrize("shift", [-3, 0, 3])
def test_a_probe_fitted_on_one_part_finds_the_lag_of_another(recording, shift):
    rows, opening = recording
    half = NUM_FRAMES // 2
    probe = SyncProbe.fit(rows[: half * ROWS_PER_FRAME], opening[:half])
    found = probe.scan(rows[half * ROWS_PER_FRAME :], later(opening[half:], shift))
    assert found.sure
    assert found.offset_frames == pytest.approx(-shift, abs=0.5)
    assert found.r > 0.7


def test_a_probe_knows_its_person_better_than_the_phone_table(recording, phones):
    rows, opening = recording
    half = NUM_FRAMES // 2
    later_rows, later_opening = rows[half * ROWS_PER_FRAME :], opening[half:]
    probe = SyncProbe.fit(rows[: half * ROWS_PER_FRAME], opening[:half])
    table = sync_offset_and_confidence(expected_lip_opening(later_rows, phones, half), later_opening)
    assert probe.scan(later_rows, later_opening).confidence > table.confidence


def test_lips_that_do_not_follow_the_sound_give_no_sure_lag(recording, phones):
    rows, opening = recording
    rng = np.random.default_rng(3)
    stranger = np.convolve(rng.normal(size=NUM_FRAMES), np.ones(3) / 3, mode="same")
    assert not sync_offset_and_confidence(expected_lip_opening(rows, phones, NUM_FRAMES), stranger).sure
    assert abs(held_out_correlation(rows, stranger)) < 0.15
    assert held_out_correlation(rows, opening) > 0.7


def test_lips_that_never_move_give_zero_and_not_a_number(recording):
    rows, _ = recording
    assert held_out_correlation(rows, np.full(NUM_FRAMES, 0.3)) == 0


def test_a_slow_change_of_expression_moves_nothing(recording):
    rows, opening = recording
    smile = 0.5 * np.sin(np.arange(NUM_FRAMES) / 150)
    assert held_out_correlation(rows, opening + smile) == pytest.approx(held_out_correlation(rows, opening), abs=0.01)


def test_frames_without_a_face_are_bridged(recording):
    rows, opening = recording
    holed = opening.copy()
    holed[100:104] = np.nan
    holed[-2:] = np.nan
    assert held_out_correlation(rows, holed) == pytest.approx(held_out_correlation(rows, opening), abs=0.02)
    with pytest.raises(InputError, match="at least one frame with a face"):
        held_out_correlation(rows, np.full(NUM_FRAMES, np.nan))


def test_pieces_too_short_or_of_different_lengths_are_refused(recording, phones):
    rows, opening = recording
    with pytest.raises(InputError, match="at least 60"):
        sync_offset_and_confidence(np.zeros(40), np.zeros(40))
    with pytest.raises(InputError):
        sync_offset_and_confidence(np.zeros(100), np.zeros(101))
    with pytest.raises(InputError, match="multiple of 899"):
        SyncProbe.fit(rows, opening[:-1])
    with pytest.raises(InputError, match="at least 75"):
        SyncProbe.fit(rows[:160], opening[:40])
    with pytest.raises(InputError):
        expected_lip_opening(rows[:, :7], phones, NUM_FRAMES)
