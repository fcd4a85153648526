"""Predictors of lips learn from the first seconds alone and are judged by what follows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from m2dao.capture.dataset import Capture
from m2dao.cli import main
from m2dao.comparison.lip_predictors import fit_predictor, judge_lips, judge_sync, lip_lesson
from m2dao.errors import ConfigError, InputError
from tests.support.small_capture import make_small_capture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_small_capture(tmp_path_factory.mktemp("lips") / "small", num_frames=220)


def test_a_predictor_is_judged_by_frames_it_has_not_learned_from(folder):
    capture = Capture.open(folder)
    lesson = lip_lesson(capture, 4.0)
    judged = judge_lips(lesson, fit_predictor("map:phones", lesson, seed=0))
    assert (judged["num_train"], judged["num_judged"]) == (100, 100)  # of 220, the last eleventh is left alone
    assert -1.0 <= judged["r"] <= 1.0


def test_what_knows_the_lips_is_told_apart_from_what_does_not(folder):
    lesson = lip_lesson(Capture.open(folder), None)
    knows = judge_lips(lesson, lambda waveform: lesson.articulation)
    still = judge_lips(lesson, lambda waveform: 0.01 * np.roll(lesson.articulation, 40, axis=0))
    assert knows["r"] > 0.95
    assert knows["error"] == 0.0
    assert knows["opening_ratio"] == pytest.approx(1.0, abs=0.1)
    assert still["opening_ratio"] < 0.1
    assert still["error"] > 0.0


def test_sync_with_a_strangers_voice_needs_no_picture(folder):
    lesson = lip_lesson(Capture.open(folder), None)
    sound = (0.1 * np.random.default_rng(0).standard_normal(5 * 16_000)).astype(np.float32)
    sync = judge_sync(lesson, fit_predictor("map:phones", lesson, seed=0), sound)
    assert set(sync) == {"offset_frames", "confidence", "sure"}
    assert not sync["sure"]  # noise says nothing


def test_more_seconds_than_there_are_and_unknown_predictors_are_refused(folder):
    capture = Capture.open(folder)
    with pytest.raises(InputError, match="seconds to learn from"):
        lip_lesson(capture, 60.0)
    with pytest.raises(ConfigError, match="speech_encoder"):
        fit_predictor("guess", lip_lesson(capture, None), seed=0)


def test_the_bench_gives_a_row_for_each_length_and_predictor(folder, capsys):
    assert main(["bench", "lips", str(folder), "--seconds", "4", "60", "--predictors", "map:phones", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["seconds"], row["predictor"], row["num_train"]) for row in rows] == [
        (4.0, "map:phones", 100),
        (None, "map:phones", 180),
    ]
