"""`m2dao probe`: what it says and writes."""

import json

import cv2
import numpy as np
import pytest

from m2dao.cli import main
from m2dao.media.audio import read_audio
from tests.support.media.sounds import hide_codec, similarity, spoken, wav_bytes, write_sound
from tests.support.videos import click_track, gray_code_frame, read_number, write_video


def probe(capsys, *arguments):
    code = main(["probe", *map(str, arguments), "--json"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    return code, json.loads(lines[0])


def test_one_line_of_json_tells_tracks_lengths_and_shape(tmp_path, capsys):
    frames = [gray_code_frame(number) for number in range(50)]
    path = write_video(tmp_path / "a.mp4", [i / 25 for i in range(50)], frames, waveform=click_track(32_000, 8000))
    code, found = probe(capsys, path)
    assert code == 0
    assert found["container"] == "mp4"
    assert found["duration_s"] == pytest.approx(2.0, abs=0.1)
    assert found["video"] == {
        "index": 0,
        "codec": "h264",
        "width": 64,
        "height": 48,
        "fps": 25.0,
        "num_frames": 50,
        "rotation_deg": 0,
        "mirrored": False,
        "transfer": "bt709",
        "interlaced": False,
    }
    sound = found["audio"]
    assert {name: sound[name] for name in ("index", "codec", "sample_rate", "channels", "channel")} == {
        "index": 1,
        "codec": "aac",
        "sample_rate": 16_000,
        "channels": 1,
        "channel": None,
    }
    assert found["other_tracks"] == found["notes"] == []


def test_tracks_that_are_not_used_are_listed_with_the_reason(tmp_path, capsys):
    path = write_sound(tmp_path / "phone.mov", [spoken(2.0), spoken(2.0)])
    hide_codec(path, 0)
    _, found = probe(capsys, path)
    assert found["container"] == "mov"
    assert found["video"] is None
    assert found["audio"]["index"] == 1
    (other,) = found["other_tracks"]
    assert (other["index"], other["kind"]) == (0, "audio")
    assert "nobody here decodes" in other["why"]


def test_out_gets_what_the_readers_read(tmp_path, capsys):
    frames = [gray_code_frame(number) for number in range(50)]
    path = write_video(tmp_path / "a.mp4", [i / 25 for i in range(50)], frames, waveform=click_track(32_000, 8000))
    assert probe(capsys, path, "--out", tmp_path / "out")[0] == 0
    assert sorted(item.name for item in (tmp_path / "out").iterdir()) == [
        "first.png",
        "last.png",
        "middle.png",
        "sound.wav",
    ]
    for name, number in (("first", 0), ("middle", 25), ("last", 49)):
        picture = cv2.cvtColor(cv2.imread(str(tmp_path / "out" / f"{name}.png")), cv2.COLOR_BGR2RGB)
        assert read_number(picture) == number
    assert np.abs(read_audio(tmp_path / "out" / "sound.wav") - read_audio(path)).max() < 1e-3


def test_a_track_can_be_chosen_and_one_that_is_not_there_is_named(tmp_path, capsys):
    path = write_sound(tmp_path / "meeting.mkv", [np.zeros(32_000, np.float32), spoken(2.0)])
    assert probe(capsys, path)[1]["audio"]["index"] == 1
    assert probe(capsys, path, "--audio-track", 0)[1]["audio"]["index"] == 0
    assert main(["probe", str(path), "--audio-track", "5"]) == 2
    assert "sound tracks 0, 1" in capsys.readouterr().err


def test_joined_sound_is_told_with_its_whole_length(tmp_path, capsys):
    voice = spoken(2.0)
    path = tmp_path / "tts.wav"
    path.write_bytes(wav_bytes(voice, 16_000) * 3)
    _, found = probe(capsys, path, "--out", tmp_path / "out")
    assert found["duration_s"] == found["audio"]["duration_s"] == 6.0
    assert "3 recordings in one file" in found["notes"][0]
    assert similarity(read_audio(tmp_path / "out" / "sound.wav"), np.tile(voice, 3)) > 0.99


def test_a_still_is_told_and_what_is_no_media_is_refused(tmp_path, capsys):
    still = write_video(tmp_path / "still.mp4", [0.0, 1.0, 2.0], [gray_code_frame(7)] * 3)
    notes = probe(capsys, still)[1]["notes"]
    assert any("a still, nothing moves" in note for note in notes)
    assert any("no sound" in note for note in notes)
    (tmp_path / "error.mp3").write_text('{"detail": "quota exceeded"}')
    assert main(["probe", str(tmp_path / "error.mp3")]) == 2
    assert "JSON text" in capsys.readouterr().err
