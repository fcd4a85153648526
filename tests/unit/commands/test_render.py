"""`m2dao render` takes sound in pieces, writes a whole file or nothing."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from m2dao.cli import main
from m2dao.identity import Talker
from m2dao.media.audio import probe_audio, read_audio, read_sent, write_wav
from m2dao.media.video import read_frames
from tests.support.media.sounds import spoken, wav_bytes, write_sound
from tests.support.tiny_identity import make_tiny_identity
from tests.support.videos import click_track, gray_code_frame, write_video


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    return make_tiny_identity(tmp_path_factory.mktemp("render") / "ball", size=64)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    time_s = np.arange(40_300) / 16_000
    write_wav(path, (0.3 * np.sin(2 * np.pi * 150 * time_s) * np.sin(2 * np.pi * 2 * time_s)).astype(np.float32))
    return path


def run(*args):
    return main([str(arg) for arg in args])


def test_the_video_lasts_as_long_as_the_sound(identity, speech, tmp_path, capsys):
    assert run("render", identity, "--audio", speech, "--out", tmp_path / "a.mp4", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["num_frames"] == 63 == len(list(read_frames(tmp_path / "a.mp4")))
    assert len(read_audio(tmp_path / "a.mp4")) == pytest.approx(63 * 640, abs=1024)


def test_the_film_carries_the_sound_as_it_was_sent_and_the_track_that_was_asked_for(identity, tmp_path):
    click = np.zeros((2, 44_100), np.float32)
    click[:, 22_050:22_150] = 0.9
    path = tmp_path / "speech.wav"
    path.write_bytes(wav_bytes(click, 44_100))
    assert run("render", identity, "--audio", path, "--out", tmp_path / "a.mp4") == 0
    info = probe_audio(tmp_path / "a.mp4")
    assert (info.sample_rate, info.num_channels) == (44_100, 2)
    samples = np.concatenate(list(read_sent(tmp_path / "a.mp4")), axis=1)
    assert np.argmax(np.abs(samples[0]) > 0.4) == pytest.approx(22_050, abs=8)
    meeting = write_sound(tmp_path / "meeting.mkv", [spoken(0.4), spoken(1.2, seed=1)])
    for track, num_frames in ((0, 10), (1, 30)):
        out = tmp_path / f"{track}.mp4"
        assert run("render", identity, "--audio", meeting, "--audio-track", track, "--out", out) == 0
        assert len(list(read_frames(out))) == pytest.approx(num_frames, abs=4)
    assert run("render", identity, "--audio", meeting, "--audio-track", 9, "--out", tmp_path / "b.mp4") == 2


def test_all_sound_of_a_film_is_spoken_whenever_its_picture_begins(identity, tmp_path):
    frames, times = [gray_code_frame(number) for number in range(25)], [1 + number / 25 for number in range(25)]
    film = write_video(tmp_path / "film.mkv", times, frames, waveform=click_track(32_000, 4000))
    assert run("render", identity, "--audio", film, "--out", tmp_path / "a.mp4") == 0
    assert len(list(read_frames(tmp_path / "a.mp4"))) == pytest.approx(50, abs=4)


def test_a_transparent_render_is_a_folder_of_pictures_that_equal_the_talkers(identity, speech, tmp_path):
    assert run("render", identity, "--audio", speech, "--out", tmp_path / "pngs", "--background", "transparent") == 0
    names = sorted(path.name for path in (tmp_path / "pngs").iterdir())
    assert names == [f"{index:06d}.png" for index in range(63)]
    own = list(Talker.load(identity).frames(read_audio(speech), background="transparent"))
    stored = cv2.imread(str(tmp_path / "pngs" / "000040.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA), own[40])
    assert run("render", identity, "--audio", speech, "--out", tmp_path / "pngs", "--background", "transparent") == 2


@pytest.mark.parametrize("out", ["a.mp4", "pngs"])
def test_a_render_that_fails_midway_leaves_nothing(identity, speech, tmp_path, monkeypatch, out):
    def breaking(self, *args, **options):
        yield np.zeros((64, 64, 4 if out == "pngs" else 3), np.uint8)
        raise OSError("no space left")

    monkeypatch.setattr(Talker, "frames", breaking)
    background = "transparent" if out == "pngs" else "plate"
    assert run("render", identity, "--audio", speech, "--out", tmp_path / out, "--background", background) == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_folders_on_the_way_are_made(identity, speech, tmp_path):
    out = tmp_path / "videos" / "today" / "a.mp4"
    assert run("render", identity, "--audio", speech, "--out", out) == 0
    assert out.is_file()


@pytest.mark.parametrize("background", ["plate", "transparent"])
@pytest.mark.parametrize("case", ["below a file", "wrong suffix", "taken", "not writable"])
def test_what_cannot_be_written_is_refused_before_the_identity_is_even_loaded(
    identity, speech, tmp_path, monkeypatch, capsys, case, background
):
    out = tmp_path / "a.mp4"
    if case == "below a file":
        (tmp_path / "file").write_bytes(b"mine")
        out = tmp_path / "file" / "a.mp4"
    elif case == "wrong suffix":
        if background == "transparent":
            pytest.skip("a folder may have any name")
        out = tmp_path / "a.avi"
    elif case == "taken":
        (out / "mine").mkdir(parents=True)
    else:
        out = Path("/proc/a.mp4")
        if not os.path.isdir("/proc/self"):
            pytest.skip("needs a folder that nobody may write into")
    before = sorted(tmp_path.rglob("*"))

    def loaded(*args, **options):
        raise AssertionError("the identity was loaded")

    monkeypatch.setattr(Talker, "load", loaded)
    assert run("render", identity, "--audio", speech, "--out", out, "--background", background, "--json") == 2
    error = json.loads(capsys.readouterr().out)
    assert error["error"] == "invalid-input"
    assert str(out) in error["detail"]
    assert sorted(tmp_path.rglob("*")) == before
