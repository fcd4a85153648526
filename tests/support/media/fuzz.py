"""Changes small media files at random and looks at each: every one is read, or refused with a reason.

    python -m tests.support.media.fuzz --seconds 120 --seed 7

Files that broke something are kept in the folder it names; make a test of each. Exit code 1 when there are any.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

from m2dao.errors import MediaError
from m2dao.media.container import MediaLimits
from m2dao.media.report import look
from tests.support.media.sounds import spoken, wav_bytes, write_sound
from tests.support.videos import click_track, gray_code_frame, write_video

LIMITS = MediaLimits(max_duration_s=120.0)
SLOW_S = 20.0
SOUNDS = {"flac": "flac", "ogg": "flac", "mka": "flac", "mp3": "libmp3lame", "wv": "wavpack", "aiff": "pcm_s16be"}
SOUNDS |= {"caf": "pcm_s16le", "au": "pcm_s16be", "w64": "pcm_s16le"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder, rng = Path(tempfile.mkdtemp(prefix="fuzz-media-")), np.random.default_rng(args.seed)
    files, num_tried, num_bad = make_files(folder), 0, 0
    deadline = time.monotonic() + args.seconds
    while time.monotonic() < deadline:
        source = files[rng.integers(len(files))]
        path = folder / f"try{source.suffix}"
        path.write_bytes(changed(source.read_bytes(), files[rng.integers(len(files))].read_bytes(), rng))
        num_tried += 1
        started = time.monotonic()
        try:
            look(path, limits=LIMITS, out=folder / "out")
        except MediaError:
            pass
        except Exception:  # whatever it is, it is a find
            traceback.print_exc()
            num_bad += 1
            path.rename(folder / f"bad-{args.seed}-{num_tried}{source.suffix}")
        if time.monotonic() - started > SLOW_S:
            print(f"{source.name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
            num_bad += 1
    print(f"{num_tried} files tried, {num_bad} finds in {folder}")
    return 1 if num_bad else 0


def make_files(folder: Path) -> list[Path]:
    """One small file of each kind."""
    frames, times = [gray_code_frame(number) for number in range(12)], [number / 25 for number in range(12)]
    files = [
        write_video(folder / f"film.{suffix}", times, frames, waveform=click_track(8000, 2000))
        for suffix in ("mp4", "mov", "mkv", "ts", "avi", "flv")
    ]
    files.append(write_video(folder / "call.webm", times, frames, codec="libvpx"))
    files += [write_sound(folder / f"sound.{suffix}", [spoken(0.5)], codec=codec) for suffix, codec in SOUNDS.items()]
    for name, big_endian in (("little.wav", False), ("big.wav", True)):
        files.append(folder / name)
        files[-1].write_bytes(wav_bytes(np.stack([spoken(0.5)] * 3), 16_000, big_endian=big_endian))
    return files


def changed(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
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
