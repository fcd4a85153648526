"""`m2dao presenter`: make recordings of synthetic presenters."""

from __future__ import annotations

import argparse
from pathlib import Path

from m2dao.commands.outputs import check_folder
from m2dao.commands.shared import Commands, add_command
from m2dao.progress import Progress

EXAMPLES = """examples:
  m2dao presenter --out samples
  m2dao presenter --out samples --person mira --seconds 10 --size 256
  m2dao presenter --out samples --person omar --sentence "Nobody has ever met me." --json
  m2dao presenter --out samples --person omar --speech-only --sentence "Only my voice, please."

The presenters are drawn and voiced by this program: no real person is in them. Beside NAME.mp4 lies the truth about
every frame (NAME.truth.safetensors, described by NAME.truth.json): head pose, lip opening, blinks, region masks.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "presenter", run, summary="make recordings of synthetic presenters", examples=EXAMPLES
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--person", default="all", metavar="NAME", help="a presenter, or all (default)")
    parser.add_argument("--seconds", type=float, default=20, metavar="S", help="length, 1 to 600 (default 20)")
    parser.add_argument("--size", type=int, default=512, metavar="PX", help="side of the picture (default 512)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default 0)")
    parser.add_argument("--sentence", metavar="TEXT", help="English text to say instead of the presenter's own")
    parser.add_argument("--speech-only", action="store_true", help="write NAME.wav (16 kHz) and no video")


def run(args: argparse.Namespace) -> dict:
    from concurrent.futures import ThreadPoolExecutor

    from m2dao.presenter.people import get_person, persons

    check_folder(args.out)
    names = persons() if args.person == "all" else (get_person(args.person).name,)
    make = _make_speech if args.speech_only else _make_video
    with Progress(names) as progress, ThreadPoolExecutor(len(names)) as pool:
        # what one recording does alone (speech, light) fills the time another one draws on several threads
        made = list(pool.map(lambda name: make(args, name, progress), names))
    if not args.json:
        for item in made:
            print(
                item["speech"]
                if args.speech_only
                else f"{item['video']}: {item['num_frames']} frames of {item['person']}"
            )
    return {"recordings": made}


def _make_speech(args: argparse.Namespace, name: str, progress: Progress) -> dict:
    from m2dao.presenter.people import get_person
    from m2dao.presenter.voices import speak

    sentence = args.sentence or get_person(name).sentence
    path = speak(sentence, name, args.out / f"{name}.wav", seed=args.seed)
    return {"person": name, "speech": str(path), "sentence": sentence}


def _make_video(args: argparse.Namespace, name: str, progress: Progress) -> dict:
    from m2dao.presenter.recording import make_recording

    made = make_recording(
        args.out,
        person=name,
        seconds=args.seconds,
        seed=args.seed,
        size=args.size,
        sentence=args.sentence,
        on_progress=lambda share: progress.show(name, "filming", share),
    )
    return made.as_dict()
