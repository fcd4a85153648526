"""`m2dao prepare`: from a recording of one person to a capture folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from m2dao.commands.outputs import check_folder
from m2dao.commands.shared import Commands, add_command, add_track_arguments

EXAMPLES = """examples:
  m2dao prepare anna.mp4 --out captures/anna
  m2dao prepare anna.mov --out captures/anna --size 256 --json

A capture is everything a fit needs and nothing else: frames at 25 per second in a fixed square crop, soft region masks,
head poses, sound at 16 kHz, audio features, and a manifest with the hash of every file. Look at contact_sheet.jpg,
plots.png and quality.json in it before spending an hour on a fit.

The recording should show one person, head and shoulders, talking to the camera for 5 s or more (a minute or two is
best), without cuts. `m2dao probe` tells which tracks it has and which are used. What does not fit is refused with the
reason, and no folder is left behind.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "prepare", run, summary="turn a recording of one person into a capture", examples=EXAMPLES
    )
    parser.add_argument("video", type=Path, metavar="VIDEO", help="the recording: any container and codec, with sound")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the capture folder to make")
    parser.add_argument("--size", type=int, default=512, metavar="PX", help="side of the square frames (default 512)")
    add_track_arguments(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a capture that is already in DIR")


def run(args: argparse.Namespace) -> dict:
    from m2dao.capture.prepare import prepare
    from m2dao.progress import showing

    check_folder(args.out)
    with showing("prepare") as show:
        result = prepare(
            args.video,
            args.out,
            size=args.size,
            audio_track=args.audio_track,
            video_track=args.video_track,
            overwrite=args.overwrite,
            on_progress=show,
        )
    if not args.json:
        print(f"{args.out}: {result.num_frames} frames, {result.seconds:.1f} s, verdict: {result.verdict}")
        for problem in result.problems:
            print(f"  - {problem}")
    return result.as_dict()
