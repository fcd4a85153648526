"""`m2dao bench audio`: its figures and its refusals."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from m2dao.audio.features import DEFAULT_FEATURES
from m2dao.commands.bench import audio as bench_audio
from m2dao.errors import ConfigError, InputError
from tests.support.speech import speech_like


def clip(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Speech and lips that open with its loudness."""
    waveform = speech_like(12.0, seed=seed)
    loudness = np.sqrt(np.square(waveform.reshape(-1, 640)).mean(axis=1))
    return waveform, loudness / loudness.max()


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench_audio.add_parser(parser.add_subparsers())
    return parser.parse_args(["audio", *words])


def test_each_feature_gets_its_accuracy_cost_and_lookahead(monkeypatch, capsys):
    clips = {"one": clip(1), "two": clip(2)}
    monkeypatch.setattr(bench_audio, "_read_clip", lambda path: clips[path.name])
    result = bench_audio.run(arguments("one", "two", "--features", "logmel,phones"))
    assert set(result) == {"clips", "features", "default"}
    assert result["default"] == DEFAULT_FEATURES
    assert result["clips"]["one"] == {"num_frames": 300}
    logmel = result["features"]["logmel"]
    assert set(logmel) == {"dim", "rate_hz", "lookahead_s", "seconds_per_minute", "within", "across", "within_by_clip"}
    assert logmel["within"] > 0.7
    assert logmel["across"] > 0.5
    assert logmel["dim"] == 80
    assert logmel["seconds_per_minute"] > 0
    assert "<- default" in capsys.readouterr().out


def test_one_recording_says_nothing_across_people(monkeypatch):
    monkeypatch.setattr(bench_audio, "_read_clip", lambda path: clip(1))
    result = bench_audio.run(arguments("one", "--features", "logmel", "--json"))
    assert result["features"]["logmel"]["across"] is None


def test_unknown_features_are_refused_before_the_recordings_are_read(tmp_path):
    with pytest.raises(ConfigError, match="mfcc"):
        bench_audio.run(arguments(str(tmp_path / "missing.mp4"), "--features", "mfcc"))


def test_a_recording_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="missing.mp4"):
        bench_audio.run(arguments(str(tmp_path / "missing.mp4"), "--features", "logmel"))
