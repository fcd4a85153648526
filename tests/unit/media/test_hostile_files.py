"""Crafted files: each ends in a picture, a sound or a clear refusal, within memory and time."""

import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from m2dao.errors import MediaError
from m2dao.media.report import look
from m2dao.media.sound.formats import SoundFormat
from m2dao.media.sound.storing import write_flac
from m2dao.media.survey.joined import find_parts
from m2dao.media.survey.kinds import dolby_vision_profile
from m2dao.media.video import read_frames
from tests.support.media.hostile import KINDS
from tests.support.media.sounds import spoken, wav_bytes, write_sound
from tests.support.videos import click_track, gray_code_frame, write_video

# Looks at a file as `m2dao probe --out` does; prints "ok" or the refusal, and dies of anything else.
LOOK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from pathlib import Path
from m2dao.errors import MediaError
from m2dao.media.report import look
from m2dao.media.container import MediaLimits
limits = MediaLimits(max_duration_s=120.0)
for number, path in enumerate(sys.argv[2:]):
    try:
        look(Path(path), limits=limits, out=Path(sys.argv[1]) / str(number))
        print("ok", flush=True)
    except MediaError as error:
        print("refused", str(error).replace(chr(10), " "), flush=True)
"""


def looked_at(folder: Path, paths: list[Path]) -> list[str]:
    """What became of each file; a crash, a traceback or a limit's signal fails."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(folder / "out"), *map(str, paths)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-2000:])
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, bytes]:
    """One small recording of each kind of container."""
    folder = tmp_path_factory.mktemp("good")
    frames = [gray_code_frame(number) for number in range(12)]
    times = [number / 25 for number in range(12)]
    sound = click_track(8000, 2000)
    for suffix in ("mp4", "mov", "mkv", "ts", "avi", "flv"):
        write_video(folder / f"film.{suffix}", times, frames, waveform=sound)
    write_video(folder / "call.webm", times, frames, codec="libvpx")
    for suffix, codec in (("flac", "flac"), ("ogg", "flac"), ("aiff", "pcm_s16be"), ("mp3", "libmp3lame")):
        write_sound(folder / f"sound.{suffix}", [spoken(0.5)], codec=codec)
    (folder / "sound.wav").write_bytes(wav_bytes(spoken(0.5), 16_000))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


NUM_LEAST = {"cut at every box": 150, "changed box by box": 80, "polyglots": 40, "playlists and references": 40}
REFUSED_ALL = ("playlists and references",)


@pytest.mark.parametrize("kind", KINDS)
def test_crafted_files_of_each_kind_are_read_or_refused(tmp_path, good, kind):
    files = dict(KINDS[kind](good))
    assert len(files) >= NUM_LEAST.get(kind, 10)
    paths = []
    for number, data in enumerate(files.values()):
        paths.append(tmp_path / f"{number}.bin")
        paths[-1].write_bytes(data)
    answers = dict(zip(files, looked_at(tmp_path, paths), strict=True))
    if kind in REFUSED_ALL:
        assert {name for name, answer in answers.items() if answer == "ok"} == set()


def test_pipes_and_devices_are_refused_without_reading_them(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    answers = looked_at(tmp_path, [tmp_path / "pipe.mp4", tmp_path / "zero.wav", tmp_path / "loop.mp4"])
    assert [answer.partition(" ")[0] for answer in answers] == ["refused"] * 3


def test_a_bomb_of_an_hour_in_a_small_file_is_stopped_by_the_limit_of_time(tmp_path):
    path = tmp_path / "bomb.flac"
    silence = (np.zeros((1, 16_000 * 60), np.float32) for _ in range(60))
    write_flac(path, silence, SoundFormat())
    assert path.stat().st_size < 4_000_000
    (answer,) = looked_at(tmp_path, [path])
    assert "at most 120 s" in answer
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2_000_000  # KiB


@pytest.mark.parametrize("num_bytes", [0, 2, 15])
def test_a_big_endian_wav_that_is_hardly_described_is_refused(tmp_path, num_bytes):
    path = tmp_path / "short.wav"
    data = bytes(64)
    body = (
        b"fmt " + struct.pack(">I", num_bytes) + bytes(num_bytes + num_bytes % 2) + b"data" + bytes(3) + b"\x40" + data
    )
    path.write_bytes(b"RIFX" + struct.pack(">I", 4 + len(body)) + b"WAVE" + body)
    with pytest.raises(MediaError, match="big-endian WAV"):
        find_parts(path)


@pytest.mark.parametrize("body", [bytes(8), b"dvcC", b"dvcC" + bytes(2)])
@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
def test_an_index_that_claims_to_be_larger_than_any_file_declares_no_dolby_vision(tmp_path, size, body):
    path = tmp_path / "a.mp4"
    path.write_bytes(struct.pack(">I4s8x", 16, b"ftyp") + struct.pack(">I4sQ", 1, b"moov", size) + body)
    assert dolby_vision_profile(path) is None


def test_an_index_that_ends_amid_its_dolby_vision_declares_none(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(struct.pack(">I4s8x", 16, b"ftyp") + struct.pack(">I4s8x", 22, b"moov") + b"dvcC\0\0")
    assert dolby_vision_profile(path) is None


def test_a_track_that_appears_amid_a_file_takes_nothing_from_the_others(tmp_path):
    """The header names a picture alone, and sound comes far behind what is looked at to find tracks."""
    numbers = range(250)
    path = write_video(tmp_path / "a.flv", [number / 25 for number in numbers], [*map(gray_code_frame, numbers)])
    body = b"\x3e" + bytes(4000)  # samples of 16 bits
    tag = b"\x08" + len(body).to_bytes(3, "big") + (9990).to_bytes(3, "big") + bytes(4) + body
    path.write_bytes(path.read_bytes() + tag + struct.pack(">I", len(tag)))
    assert look(path)["video"]["num_frames"] == 250
    assert sum(1 for _ in read_frames(path)) == 250
