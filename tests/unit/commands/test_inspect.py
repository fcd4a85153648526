"""`m2dao inspect` on a presenter whose truth is known, and on a video of nobody."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from m2dao.cli import main
from m2dao.media.mux import VideoWriter
from m2dao.presenter import make_recording
from m2dao.timeline import SAMPLES_PER_FRAME


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return make_recording(tmp_path_factory.mktemp("presenter"), person="mira", seconds=6, size=192, seed=1)


def test_a_speaking_presenter_is_seen_throughout_with_moving_lips(recording, capsys):
    assert main(["inspect", str(recording.video), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_frames"], found["seconds"]) == (150, 6.0)
    assert found["num_frames_without_face"] == 0
    truth = float(np.std(load_file(recording.truth)["lip_opening"]))
    assert 0.5 * truth < found["lip_motion"] < 2 * truth


def test_a_video_of_nobody_is_refused(tmp_path, capsys):
    path = tmp_path / "nobody.mp4"
    sound = 0.1 * np.random.default_rng(0).standard_normal(25 * SAMPLES_PER_FRAME).astype(np.float32)
    with VideoWriter(path, width=128, height=128, waveform=sound) as writer:
        for level in range(25):
            writer.write(np.full((128, 128, 3), 60 + level, np.uint8))
    assert main(["inspect", str(path), "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["detail"] in captured.err
    assert "a face" in captured.err
