"""`m2dao bench report`: quality reports against what presenters act out on purpose."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from m2dao.commands.outputs import check_folder
from m2dao.commands.shared import Commands, add_command
from m2dao.figures import rounded
from m2dao.progress import Show, showing

EXAMPLES = """examples:
  m2dao bench report --json
  m2dao bench report --person mira --case hand --case "long blink" --work films
  m2dao bench report --only-videos --video anna.mp4 --video ben.mp4

Presenters are filmed with and without hands, microphones, glasses, glare, turns, cuts, a busy background, long blinks,
a beard, noise, music and a second voice. Each film's quality report is compared with what happened in it. A finding is
true where it is owed, and a refusal never is. That a film is short is true of all of them and does not count.
Recordings given by --video have no truth: what their reports say is printed.

--json prints {precision, recall, num_findings, num_owed, films: [{person, case, owed, found, false, missed, refused}],
recordings: [{video, verdict, kinds, problems}]}.
"""
# What happens in one film; names of presenter incidents.
CASES = {
    "nothing": (),
    "hand": ("hand",),
    "microphone": ("microphone",),
    "glasses": ("glasses",),
    "glare": ("glasses", "glare"),
    "profile": ("profile",),
    "quick turn": ("quick turn",),
    "quick turns": ("quick turns",),
    "long blink": ("long blink",),
    "glasses and long blink": ("glasses", "long blink"),
    "jump cut": ("jump cut",),
    "few pictures": ("few pictures",),
    "repeated pictures": ("repeated pictures",),
    "busy background": ("busy background",),
    "busy background and quick turn": ("busy background", "quick turn"),
    "busy background and hand": ("busy background", "hand"),
    "beard": ("beard",),
    "beard and microphone": ("beard", "microphone"),
    "noise": ("noise",),
    "hiss": ("hiss",),
    "hum": ("hum",),
    "music": ("music",),
    "second voice": ("second voice",),
}
_NOT_COUNTED = ("short", "lag unknown")  # true of every short film


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "report", run, summary="whether quality reports are right", examples=EXAMPLES)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the films (default 10)")
    parser.add_argument("--size", type=int, default=256, help="pixels of films and captures (default 256)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--person", action="append", default=[], help="a presenter (default: all)")
    parser.add_argument("--case", action="append", default=[], help=f"one of: {', '.join(CASES)} (default: all)")
    parser.add_argument("--video", type=Path, action="append", default=[], help="a recording of yours")
    parser.add_argument("--only-videos", action="store_true", help="no presenters")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the films there, and use those that are there")


def run(args: argparse.Namespace) -> dict:
    from m2dao.errors import ConfigError
    from m2dao.presenter import persons

    unknown = sorted(set(args.case) - set(CASES))
    if unknown:
        raise ConfigError(f"--case {unknown[0]!r}", f"one of {', '.join(CASES)}", "an unknown name")
    people = () if args.only_videos else (args.person or persons())
    wanted = [(person, case) for person in people for case in (args.case or CASES)]
    with _folder(args.work) as folder, showing("report") as show:
        films = [_film(person, case, folder, args, show) for person, case in wanted]
        recordings = [_recording(video, args.size, show) for video in args.video]
    for row in (*films, *recordings):
        print("  ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr)
    num_found, num_owed = (sum(len(row[name]) for row in films) for name in ("found", "owed"))
    num_false, num_missed = (sum(len(row[name]) for row in films) for name in ("false", "missed"))
    return {
        "precision": rounded(1 - num_false / num_found) if num_found else None,
        "recall": rounded(1 - num_missed / num_owed) if num_owed else None,
        "num_findings": num_found,
        "num_owed": num_owed,
        "films": films,
        "recordings": recordings,
    }


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        check_folder(kept)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="m2dao-bench-report-") as folder:
        yield Path(folder)


def _film(person: str, case: str, folder: Path, args: argparse.Namespace, show: Show) -> dict[str, Any]:
    from m2dao.presenter import make_recording
    from m2dao.presenter.incidents import get_incident

    place = folder / f"{case.replace(' ', '-')}-{args.seconds:g}s-{args.size}px-{args.seed}"
    video = place / f"{person}.mp4"
    show(f"{person}, {case}: filming", 0.0)
    if not video.is_file():
        video = make_recording(
            place, person=person, seconds=args.seconds, size=args.size, seed=args.seed, incidents=CASES[case]
        ).video
    owed = {finding for finding in (get_incident(name).finding for name in CASES[case]) if finding}
    report = _report(video, args.size, show)
    found = ["refused"] if report["verdict"] == "rejected" else report["kinds"]
    found = sorted(set(found) - set(_NOT_COUNTED))
    return {
        "person": person,
        "case": case,
        "owed": sorted(owed),
        "found": found,
        "false": sorted(set(found) - owed),
        "missed": sorted(owed - set(found)),
        "refused": report["problems"][0] if report["verdict"] == "rejected" else None,
    }


def _recording(video: Path, size: int, show: Show) -> dict[str, Any]:
    return {"video": video.name} | _report(video, size, show)


def _report(video: Path, size: int, show: Show) -> dict[str, Any]:
    """Verdict, kinds of findings and their texts."""
    from m2dao.capture.prepare import prepare
    from m2dao.errors import CaptureRejected

    with tempfile.TemporaryDirectory(prefix="m2dao-bench-report-") as folder:
        try:
            result = prepare(
                video,
                Path(folder) / "capture",
                size=size,
                on_progress=lambda stage, share: show(f"{video.name}: {stage}", share),
            )
        except CaptureRejected as error:
            return {"verdict": "rejected", "kinds": [], "problems": [str(error)]}
    return {"verdict": result.verdict, "kinds": result.kinds, "problems": result.problems}
