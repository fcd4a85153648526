"""Lips are compared with lips: what was recorded and what a presenter really did."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from m2dao.errors import InputError
from m2dao.evaluation.closures import (
    LipTruth,
    compare_lips,
    compare_with_lip_truth,
    read_lip_truth,
    speech_frames,
)

NUM_FRAMES = 100
SPEECH = np.ones(NUM_FRAMES, bool)


def lips(*closures):
    """Openings that are wide but for some frames."""
    opening = np.full(NUM_FRAMES, 0.1)
    opening[list(closures)] = 0.005
    return opening


def test_a_closure_counts_within_a_frame_of_the_recorded_one_and_no_further():
    recorded = lips(20, 40, 60, 80)
    found = compare_lips(lips(20, 41, 62), recorded, SPEECH)
    assert found.closure_ratio == 0.5
    assert found.closure_precision == pytest.approx(2 / 3)


def test_lips_that_rest_close_no_sound():
    assert compare_lips(lips(), lips(*range(20, 40)), SPEECH).closure_ratio is None
    pause = SPEECH.copy()
    pause[15:30] = False
    assert compare_lips(lips(), lips(20, 60), pause).closure_ratio == 0.0
    assert compare_lips(lips(60), lips(20, 60), pause).closure_ratio == 1.0, "what happens in a pause does not count"


def test_the_opening_ratio_is_the_spread_over_the_recorded_one():
    recorded = 0.1 + 0.05 * np.sin(np.arange(NUM_FRAMES))
    halved = 0.1 + 0.5 * (recorded - 0.1)
    assert compare_lips(halved, recorded, SPEECH).opening_ratio == pytest.approx(0.5)
    assert compare_lips(halved, np.full(NUM_FRAMES, 0.1), SPEECH).opening_ratio is None


def test_faces_that_were_not_found_close_nothing():
    rendered = lips(20)
    rendered[39:42] = np.nan
    assert compare_lips(rendered, lips(20, 40), SPEECH).closure_ratio == 1.0


def test_a_presenter_knows_when_lips_close_and_when_they_rest():
    closed, silent = np.zeros(NUM_FRAMES, bool), np.zeros(NUM_FRAMES, bool)
    closed[[20, 21, 50]], silent[80:] = True, True
    truth = LipTruth(lips(20, 21, 50, *range(80, 100)), closed, silent)
    rendered = truth.lip_opening.copy()
    rendered[50], rendered[80:] = 0.1, 0.02
    found = compare_with_lip_truth(rendered, truth)
    assert found.truth_closure == 0.5
    assert found.truth_opening_silence == pytest.approx(0.02)
    assert found.truth_jitter_silence == 0
    assert found.truth_opening_error == pytest.approx(0.095 / 80)


def test_a_truth_file_is_read_as_a_presenter_leaves_it_or_refused(tmp_path):
    path = tmp_path / "mira.truth.safetensors"
    flags = np.zeros(NUM_FRAMES, np.uint8)
    save_file({"lip_opening": lips(3).astype(np.float32), "closed": flags, "silent": flags}, path)
    assert read_lip_truth(path, 90).closed.shape == (90,)
    assert read_lip_truth(path, 90).part(range(3, 5)).lip_opening[0] == pytest.approx(0.005)
    with pytest.raises(InputError, match="of 120 frames"):
        read_lip_truth(path, 120)
    with pytest.raises(InputError, match="truth beside"):
        read_lip_truth(tmp_path / "nobody.safetensors", 10)


def test_speech_is_where_the_sound_is_loud():
    rng = np.random.default_rng(0)
    waveform = 1e-4 * rng.normal(size=NUM_FRAMES * 640)
    waveform[30 * 640 : 60 * 640] += 0.2 * np.sin(np.arange(30 * 640) / 8)
    speech = speech_frames(waveform.astype(np.float32))
    assert speech.shape == (NUM_FRAMES,)
    assert speech[30:60].all()
    assert not speech[:29].any()
    assert not speech[75:].any(), "a short pause stays open, a long one does not"
