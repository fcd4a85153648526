"""Identities that speak with other people's voices are compared with themselves."""

import dataclasses
import json

import numpy as np
import pytest

from m2dao import cli
from m2dao.capture.faces.layout import face_layout
from m2dao.capture.faces.tracker import FaceObservation
from m2dao.comparison.other_speakers import OWN_VOICE, VoiceRow, spread
from m2dao.media.audio import write_wav
from m2dao.training.fit import fit
from tests.support.small_capture import make_small_capture, small_recipe

ROW = VoiceRow(
    identity="anna",
    voice="german",
    sync_offset_frames=0.5,
    sync_confidence=0.6,
    sync_sure=True,
    offset_from_own=0.4,
    confidence_ratio=0.9,
    jitter_silence=None,
    lip_change=0.01,
    closure_mbp=1.0,
    num_frames=100,
)


class ChewingFace:
    """Finds the same face in any picture, its lips opening and closing twice a second."""

    def __init__(self):
        self._num_frames = 0

    def track(self, picture):
        landmarks = np.zeros((478, 3), np.float32)
        landmarks[:468, :2] = face_layout()
        landmarks[14, 1] += 0.2 + 0.1 * np.sin(self._num_frames / 2)
        self._num_frames += 1
        return FaceObservation(64 * landmarks, np.zeros(52, np.float32), 1.0, (0, 0, 64, 64))


@pytest.mark.parametrize("sure", [True, False])
def test_each_voice_is_compared_with_the_identitys_own_if_that_can_be_told(tmp_path, monkeypatch, capsys, sure):
    monkeypatch.setattr("m2dao.audio.lipsync.SURE_SIGMAS", 0.0 if sure else 99.0)
    monkeypatch.setattr("m2dao.evaluation.evaluate.FaceTracker", ChewingFace)
    capture = make_small_capture(tmp_path / "ball")
    fit(capture, tmp_path / "identity", recipe=small_recipe(), steps=5)
    voice = tmp_path / "rustle.wav"
    write_wav(voice, np.random.default_rng(0).normal(0, 0.1, 16000 * 3).astype(np.float32))
    arguments = [
        "--identity",
        str(tmp_path / "identity"),
        str(capture),
        "--audio",
        str(voice),
        "--out",
        str(tmp_path / "out"),
    ]
    assert cli.main(["bench", "voices", *arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    own, other = result["rows"]
    assert (own["voice"], other["voice"]) == (OWN_VOICE, "rustle")
    assert {own["identity"], other["identity"]} == {"ball"}
    assert own["sync_sure"] == sure
    if sure:
        assert own["confidence_ratio"] == 1
        assert own["offset_from_own"] == 0
        assert other["confidence_ratio"] == pytest.approx(other["sync_confidence"] / own["sync_confidence"], abs=2e-3)
    else:
        assert own["confidence_ratio"] is None
        assert other["offset_from_own"] is None
    assert other["num_frames"] == 75
    assert other["lip_change"] == pytest.approx(own["lip_change"], rel=0.05)
    assert own["lip_change"]
    assert json.loads((tmp_path / "out" / "voices.json").read_text()) == result
    assert (tmp_path / "out" / "voices.png").stat().st_size > 1000
    assert (tmp_path / "out" / "ball" / "rustle" / "side_by_side.mp4").stat().st_size > 1000


def test_the_spread_is_over_identities_and_leaves_out_what_nobody_knows():
    rows = [
        ROW,
        dataclasses.replace(ROW, identity="ben", sync_offset_frames=-0.5, confidence_ratio=None),
        dataclasses.replace(ROW, identity="cleo", sync_offset_frames=9.0, sync_sure=False, confidence_ratio=None),
        dataclasses.replace(ROW, voice="noise", sync_offset_frames=None, sync_sure=None, confidence_ratio=None),
    ]
    german, noise = spread(rows)
    assert german == {
        "voice": "german",
        "offset_mean": 0.0,
        "offset_spread": 1.0,
        "confidence_ratio_mean": 0.9,
        "confidence_ratio_least": 0.9,
        "num_identities": 3,
    }
    assert noise["offset_mean"] is None
    assert noise["num_identities"] == 1


def test_a_sound_that_is_too_short_is_refused_before_anything_is_rendered(tmp_path, capsys):
    for name, seconds in (("long", 3), ("short", 1)):
        write_wav(tmp_path / f"{name}.wav", np.zeros(16000 * seconds, np.float32))
    sounds = [str(tmp_path / f"{name}.wav") for name in ("long", "short")]
    assert cli.main(["bench", "voices", "--identity", "nobody", "nothing", "--audio", *sounds]) == 2
    assert "short.wav: expected at least 2.4 s" in capsys.readouterr().err
