"""Crafted files: each ends in a picture, a sound or a clear refusal, within memory and time."""

import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from m2dao.media.sound.formats import SoundFormat
from m2dao.media.sound.storing import write_flac
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
def good(tmp_path_factory) -> list[Path]:
    """One small recording of each kind of container."""
    folder = tmp_path_factory.mktemp("good")
    frames = [gray_code_frame(number) for number in range(12)]
    times = [number / 25 for number in range(12)]
    films = [
        write_video(folder / f"film.{suffix}", times, frames, waveform=click_track(8000, 2000))
        for suffix in ("mp4", "mov", "mkv", "ts", "avi")
    ]
    sounds = [write_sound(folder / f"sound.{suffix}", [spoken(0.5)], codec="flac") for suffix in ("flac", "ogg", "mka")]
    wav = folder / "sound.wav"
    wav.write_bytes(wav_bytes(spoken(0.5), 16_000))
    return [*films, *sounds, wav]


def test_files_cut_off_anywhere_are_read_or_refused(tmp_path, good):
    paths = []
    for source in good:
        data = source.read_bytes()
        for cut in np.unique(np.linspace(1, len(data) - 1, 12).astype(int)):
            paths.append(tmp_path / f"{cut}-{source.name}")
            paths[-1].write_bytes(data[:cut])
    assert len(looked_at(tmp_path, paths)) == len(paths) >= 100


@pytest.mark.parametrize("seed", range(2))
def test_files_with_bytes_changed_are_read_or_refused(tmp_path, good, seed):
    rng = np.random.default_rng(seed)
    paths = []
    for source in good:
        for number in range(6):
            data = bytearray(source.read_bytes())
            reach = min(len(data), 4000 if number % 2 else len(data))
            for at in rng.integers(0, reach, 1 + number * 3):
                data[at] = int(rng.choice([0, 255, 127, 128, int(rng.integers(256))]))
            paths.append(tmp_path / f"{number}-{source.name}")
            paths[-1].write_bytes(bytes(data))
    assert len(looked_at(tmp_path, paths)) == len(paths)


def test_headers_that_lie_about_size_length_and_channels_cost_nothing(tmp_path):
    voice = wav_bytes(spoken(0.5), 16_000)
    lies = {
        "rate0": voice[:24] + struct.pack("<I", 0) + voice[28:],
        "rate4g": voice[:24] + struct.pack("<I", 0xFFFFFFFF) + voice[28:],
        "channels0": voice[:22] + struct.pack("<H", 0) + voice[24:],
        "channels64k": voice[:22] + struct.pack("<H", 0xFFFF) + voice[24:],
        "bits0": voice[:34] + struct.pack("<H", 0) + voice[36:],
        "rifx": b"RIFX" + voice[4:],
        "headers": voice[:12] * 2000,
        "wavs": wav_bytes(spoken(0.5)[:1], 16_000) * 1500,
        "pages": (b"OggS\0\x02" + bytes(20) + b"\x01\x00") * 3000,
        "boxes": struct.pack(">I4s", 8, b"ftyp") * 5000,
        "nested": b"".join(struct.pack(">I4s", 100_000 - 8 * depth, b"moov") for depth in range(10_000)),
        "endless": struct.pack(">I4s", 24, b"ftyp") + b"isom" + bytes(12) + struct.pack(">I4s", 0, b"mdat") + bytes(99),
        "ebml": b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm" * 500,
        "playlist": b"#EXTM3U\nhttp://127.0.0.1:9/x.ts\n",
        "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "polyglot": b"\xff\xd8\xff\xe0" + voice,
        "zeros": bytes(100_000),
        "noise": np.random.default_rng(0).bytes(100_000),
    }
    paths = []
    for name, data in lies.items():
        paths.append(tmp_path / f"{name}.bin")
        paths[-1].write_bytes(data)
    answers = looked_at(tmp_path, paths)
    assert len(answers) == len(lies)
    for name in ("playlist", "concat", "polyglot", "zeros", "noise", "rifx"):
        assert answers[list(lies).index(name)].startswith("refused"), name


def test_a_bomb_of_an_hour_in_a_small_file_is_stopped_by_the_limit_of_time(tmp_path):
    path = tmp_path / "bomb.flac"
    silence = (np.zeros((1, 16_000 * 60), np.float32) for _ in range(60))
    write_flac(path, silence, SoundFormat())
    assert path.stat().st_size < 4_000_000
    (answer,) = looked_at(tmp_path, [path])
    assert "at most 120 s" in answer
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2_000_000  # KiB
