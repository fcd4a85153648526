"""`m2dao render`: identity and sound in, video out."""

from __future__ import annotations

import argparse
import functools
import math
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from m2dao.commands.outputs import check_file, check_folder
from m2dao.commands.shared import Commands, add_backend_argument, add_command, add_track_arguments, peak_rss_mb
from m2dao.errors import InputError, MediaError
from m2dao.progress import counted

if TYPE_CHECKING:
    import numpy as np

    from m2dao.identity.talker import Background
from m2dao.files import whole_folder

EXAMPLES = """examples:
  m2dao render identities/anna --audio speech.wav --out anna.mp4
  m2dao render identities/anna --audio speech.mp3 --out anna.mp4 --background '#204060'
  m2dao render identities/anna --audio speech.wav --out anna.mp4 --background office.jpg --seed 3
  m2dao render identities/anna --audio speech.wav --out frames/ --background transparent    (PNG files with alpha)

--json prints {num_frames, seconds, real_time_factor, peak_rss_mb}; seconds of work, a factor below 1 is faster than
the speech lasts.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "render", run, summary="let an identity speak", examples=EXAMPLES)
    parser.add_argument("identity", type=Path, help="folder made by `m2dao fit`")
    parser.add_argument("--audio", type=Path, required=True, help="speech, any format, any length")
    add_track_arguments(parser, video=False)
    parser.add_argument("--out", type=Path, required=True, help="mp4 to write (a folder when transparent)")
    parser.add_argument("--background", default="plate", help="plate (default), transparent, #rrggbb or a picture")
    parser.add_argument("--seed", type=int, default=0, help="chooses head motion and blinks")
    add_backend_argument(parser)


def run(args: argparse.Namespace) -> dict:
    from m2dao.identity.talker import Talker
    from m2dao.kernels.threads import one_torch_thread
    from m2dao.media.audio import SoundChoice, probe_audio, read_audio_chunks
    from m2dao.timeline import FRAME_RATE

    background = parse_background(args.background)
    is_film = not (isinstance(background, str) and background == "transparent")
    if is_film:
        check_file(args.out, suffix=".mp4")
    else:
        check_folder(args.out, new=True)
    talker = Talker.load(args.identity, backend=args.backend)
    sound = probe_audio(args.audio, track=args.audio_track, sound_only=True)
    started = time.monotonic()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    total = math.ceil(sound.duration_s * FRAME_RATE) or None
    show = functools.partial(counted, name="render", total=total)
    if is_film:
        num_frames = talker.render(
            args.audio,
            args.out,
            audio_track=sound.index,
            background=background,
            seed=args.seed,
            progress=show,
        )
    else:
        frames = talker.frames(
            read_audio_chunks(args.audio, SoundChoice(track=sound.index, sound_only=True)),
            background=background,
            seed=args.seed,
        )
        with one_torch_thread():
            num_frames = _write_pngs(show(frames), args.out)
    seconds = time.monotonic() - started
    for note in sound.notes:
        print(f"  - {note}", file=sys.stderr)
    print(f"{args.out}: {num_frames} frames in {seconds:.1f} s", file=sys.stderr)
    return {
        "num_frames": num_frames,
        "seconds": round(seconds, 3),
        "real_time_factor": round(seconds / (num_frames / FRAME_RATE), 4),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }


def parse_background(text: str) -> Background:
    """`plate`, `transparent`, `#rrggbb` or the path of a picture, as :meth:`Talker.frames` takes it.

    Raises:
        InputError: none of these.
    """
    if text in ("plate", "transparent"):
        return text
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    if not Path(text).is_file():
        raise InputError(f"background {text!r}", "plate, transparent, #rrggbb or a picture file", "none of these")
    from m2dao.media.photo import read_photo

    return read_photo(text, subject=f"background {text}")


def _write_pngs(frames: Iterable[np.ndarray], folder: Path) -> int:
    """Write a folder of PNG files with alpha; returns how many."""
    import cv2

    from m2dao.pictures import write_picture

    num_frames = 0
    with whole_folder(folder, replace=False) as aside:
        for frame in frames:
            try:
                write_picture(aside / f"{num_frames:06d}.png", cv2.cvtColor(frame, cv2.COLOR_RGBA2BGRA))
            except OSError as error:
                raise MediaError(
                    str(folder), "room and leave to write PNG files", str(error), "check the disk"
                ) from error
            num_frames += 1
    return num_frames
