"""The lag of a recording: found to the frame, taken away, and left alone where it cannot be told."""

import numpy as np
import pytest

from m2dao.audio.features import get_extractor
from m2dao.audio.lipsync import expected_lip_opening
from m2dao.capture.review.sync import find_sync, shift_sound
from tests.support.speech import speech_like


@pytest.fixture(scope="module")
def rows():
    return get_extractor("phones").extract(speech_like(20.0, seed=3))


def lips_of(rows, lag, noise=0.05):
    """Lip opening [T] of somebody whose sound comes `lag` frames late."""
    num_frames = len(rows) // 4
    asked = expected_lip_opening(rows, get_extractor("phones").phones, num_frames)
    seen = np.roll(asked, -lag)
    return 0.2 * seen + noise * np.std(seen) * np.random.default_rng(1).normal(size=num_frames)


@pytest.mark.parametrize("lag", [-7, -2, 0, 1, 3, 8])
def test_a_known_lag_is_found_and_taken_away(rows, lag):
    found = find_sync(rows, lips_of(rows, lag))
    assert found.offset_frames == lag
    assert found.corrected_frames == lag, "what is reported is corrected"
    assert bool(found.problems) == bool(lag)


def test_lips_that_have_nothing_to_do_with_the_sound_change_nothing(rows):
    lips = 0.1 + 0.05 * np.abs(np.sin(np.arange(len(rows) // 4) / 3.7))
    found = find_sync(rows, lips)
    assert (found.offset_frames, found.corrected_frames) == (0, 0)
    assert "cannot be told" in found.problems[0].text


@pytest.mark.parametrize("lag", [-2, 0, 3])
def test_shifting_keeps_length_and_moves_samples_by_whole_frames(lag):
    sound = np.arange(1, 6401, dtype=np.float32)
    shifted = shift_sound(sound, lag)
    assert len(shifted) == len(sound)
    kept = np.flatnonzero(shifted)
    np.testing.assert_array_equal(shifted[kept], sound[kept + 640 * lag])
    assert len(kept) == len(sound) - 640 * abs(lag)
