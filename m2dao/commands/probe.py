"""`m2dao probe`: what is in a file, and what will be done with it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from m2dao.commands.shared import Commands, add_command, add_track_arguments

EXAMPLES = """examples:
  m2dao probe anna.mov
  m2dao probe anna.mov --json
  m2dao probe anna.mov --out looked/            (sound.wav, first.png, middle.png and last.png, as prepare reads them)
  m2dao probe meeting.mkv --audio-track 2

--json prints one object: {container, duration_s, video: {index, codec, width, height, fps, num_frames, rotation_deg,
mirrored, transfer (bt709, hlg, pq), interlaced} or null, audio: {index, codec, sample_rate, channels, duration_s,
channel} or null, other_tracks, notes}. Numbers of tracks are those of the file, from 0 on. channel is the one channel
that is heard, from 0 on, and null for all of them or a mix. Lengths are those of the time stamps.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "probe", run, summary="tell what is in a video or sound file and how it is read", examples=EXAMPLES
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a video or sound file")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the sound and three pictures, as read")
    add_track_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from m2dao.media.report import look

    found = look(args.file, audio_track=args.audio_track, video_track=args.video_track, out=args.out)
    if not args.json:
        _show(found)
    return found


def _show(found: dict[str, Any]) -> None:
    print(f"{'container':<10} {found['container']}, {found['duration_s']:.2f} s")
    for kind in ("video", "audio"):
        track = found[kind]
        told = "none" if track is None else ", ".join(f"{name} {_text(value)}" for name, value in track.items())
        print(f"{kind:<10} {told}")
    for track in found["other_tracks"]:
        print(f"{'not used':<10} {', '.join(f'{name} {_text(value)}' for name, value in track.items() if value)}")
    for note in found["notes"]:
        print(f"  - {note}")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        "all" if value is None else f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    )
