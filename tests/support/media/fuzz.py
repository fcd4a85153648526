"""Changes small media files box by box and looks at each: every one is read, or refused with a reason.

    python -m tests.support.media.fuzz --minutes 2 --seed 7
    python -m tests.support.media.fuzz --seed 7 --only 1234      # one file again, which is kept

A find is a file that raises anything but a refusal, ends the process, or takes more processor time or memory than any
small file may. It is kept in the folder that is named; make a test of it. Exit code 1 when there are any. Time that
passes finds nothing, so a loaded machine tries fewer files and finds no more.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

from m2dao.errors import InputError, MediaError
from m2dao.media.container import MediaLimits
from m2dao.media.report import look
from tests.support.media.boxes import mutate
from tests.support.media.sounds import spoken, wav_bytes, write_sound
from tests.support.videos import click_track, gray_code_frame, write_video

LIMITS = MediaLimits(max_duration_s=120.0)
MAX_CPU_S = 60.0  # of a file; the kernel ends the process then
MAX_MEMORY_BYTES = 4 << 30  # of addresses
SOUNDS = {"flac": "flac", "ogg": "flac", "mka": "flac", "mp3": "libmp3lame", "wv": "wavpack", "aiff": "pcm_s16be"}
SOUNDS |= {"caf": "pcm_s16le", "au": "pcm_s16be", "w64": "pcm_s16le"}
BYTEWISE = 0.2  # of the files are changed without regard to boxes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=None, help="another one each day if not given")
    parser.add_argument("--files", type=int, default=1_000_000, help="the most that are tried")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--only", type=int, help="number of the only file; it is kept")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)  # of the process that reads the files
    args = parser.parse_args()
    seed = int(time.time() // 86_400) if args.seed is None else args.seed
    if args.work is not None:
        return read_files(args.work, seed, range(args.first, args.first + args.files), args.minutes * 60)
    numbers = range(args.first, args.first + args.files) if args.only is None else range(args.only, args.only + 1)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-media-"))
    make_files(folder)
    print(f"seed {seed}, {args.minutes:g} minutes, in {folder}", flush=True)
    tried, finds = _watch_all(folder, seed, numbers, time.monotonic() + 60 * args.minutes)
    print(f"{tried} files tried, {len(finds)} finds", *finds, sep="\n")
    return 1 if finds else 0


def _watch_all(folder: Path, seed: int, numbers: range, deadline: float) -> tuple[int, list[Path]]:
    """How many files were looked at, and those that broke something."""
    number = numbers.start
    while number < numbers.stop and time.monotonic() < deadline:
        last, ended = _watch(folder, seed, range(number, numbers.stop), deadline)
        if ended is not None:
            path = next(folder.glob("try.*"))
            path.rename(folder / f"bad-{seed}-{last}{path.suffix}")
            print(f"file {last}: {ended}", flush=True)
        number = last + 1
        if ended is None:
            break
    return number - numbers.start, sorted(folder.glob("bad-*"))


def _watch(folder: Path, seed: int, numbers: range, deadline: float) -> tuple[int, str | None]:
    """The last file that a process looked at, and how it died; None if it ended as it should."""
    minutes = max(deadline - time.monotonic(), 0.0) / 60
    words = ["--work", folder, "--seed", seed, "--first", numbers.start, "--files", len(numbers), "--minutes", minutes]
    command = [sys.executable, "-m", "tests.support.media.fuzz", *map(str, words)]
    last = numbers.start - 1
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = int(line)
        status = process.wait()
    if status == 0:
        return last, None
    return last, f"the process ended by {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"


def read_files(folder: Path, seed: int, numbers: range, seconds: float) -> int:
    """Make files and look at them until the time is over; prints the number of each before."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sources, deadline = sorted(folder.glob("source.*")), time.monotonic() + seconds
    for number in numbers:
        if time.monotonic() > deadline:
            break
        rng = np.random.default_rng([seed, number])
        source, other = (sources[rng.integers(len(sources))] for _ in range(2))
        for old in folder.glob("try.*"):
            old.unlink()
        path = folder / f"try{source.suffix}"
        change = bytewise if rng.random() < BYTEWISE else boxwise
        path.write_bytes(change(source.read_bytes(), other.read_bytes(), rng))
        print(number, flush=True)
        signal.setitimer(signal.ITIMER_PROF, MAX_CPU_S)  # nobody catches it: the kernel ends the process
        try:
            with contextlib.suppress(MediaError, InputError):
                look(path, limits=LIMITS, out=folder / "out")
        except Exception:  # whatever it is, it is a find
            traceback.print_exc()
            path.rename(folder / f"bad-{seed}-{number}{path.suffix}")
        signal.setitimer(signal.ITIMER_PROF, 0)
    return 0


def make_files(folder: Path) -> None:
    """One small file of each kind, ``source.SUFFIX.SUFFIX``."""
    frames, times = [gray_code_frame(number) for number in range(12)], [number / 25 for number in range(12)]
    sound = click_track(8000, 2000)
    for suffix in ("mp4", "mov", "mkv", "ts", "avi", "flv"):
        write_video(folder / f"source.{suffix}", times, frames, waveform=sound)
    movflags = {"movflags": "frag_keyframe+empty_moov+default_base_moof+delay_moov"}
    write_video(folder / "source.m4v.mp4", times, frames, waveform=sound, options=movflags)
    write_video(folder / "source.webm", times, frames, codec="libvpx")
    for suffix, codec in SOUNDS.items():
        write_sound(folder / f"source.{suffix}", [spoken(0.5)], codec=codec)
    write_sound(folder / "source.m4a.mp4", [spoken(0.5), spoken(0.5, seed=1)], codec="aac")
    for name, big_endian in (("source.wav", False), ("source.rifx.wav", True)):
        (folder / name).write_bytes(wav_bytes(np.stack([spoken(0.5)] * 3), 16_000, big_endian=big_endian))


def boxwise(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The file with boxes changed, or bytes where it has none."""
    found = mutate(data, rng)
    return found if found != data else bytewise(data, other, rng)


def bytewise(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The file with bytes changed, left out, or another file put into it."""
    out = bytearray(data)
    way = rng.integers(4)
    if way == 0:
        for at in rng.integers(0, len(out), rng.integers(1, 30)):
            out[at] = int(rng.integers(256))
    elif way == 1:
        for at in rng.integers(0, min(len(out), 3000), rng.integers(1, 12)):
            out[at] = int(rng.choice([0, 255, 127, 128, 1]))
    elif way == 2:
        start, end = sorted(rng.integers(0, len(out), 2))
        del out[start:end]
    else:
        at = int(rng.integers(len(out)))
        out[at:at] = other[: int(rng.integers(len(other)))]
    return bytes(out)


if __name__ == "__main__":
    sys.exit(main())
