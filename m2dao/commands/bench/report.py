"""`m2dao bench report`: quality reports against what presenters act out on purpose."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from m2dao.commands.outputs import check_file, check_folder
from m2dao.commands.shared import Commands, add_command
from m2dao.figures import rounded
from m2dao.progress import Show, showing

EXAMPLES = """examples:
  m2dao bench report --json
  m2dao bench report --person mira --case hand --case "long blink" --work films
  m2dao bench report --seed 1 --rows seed-1.jsonl
  m2dao bench report --only-videos --video anna.mp4 --video ben.mp4

Presenters are filmed with and without hands, microphones, glasses, glare, turns, cuts, a busy background, long blinks,
a beard, noise, music and a second voice. Each film's quality report is compared with what happened in it. A finding is
true where it is owed, and a refusal never is. That a film is short is true of all of them and does not count.
Recordings given by --video have no truth: what their reports say is printed.

Each --seed films other people (but 0, the presenters as they are), who move otherwise, in other noise. --rows keeps
each film's result, one on a line; a call that is stopped goes on from there. Give a new file after the code changed.

--json prints {precision, recall, num_findings, num_owed, films: [{person, case, owed, found, false, missed, refused}],
recordings: [{video, verdict, kinds, problems}]}.
"""
# What happens in one film; names of presenter incidents.
CASES = {
    "nothing": (),
    "hand": ("hand",),
    "microphone": ("microphone",),
    "grey microphone": ("grey microphone",),
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
    parser.add_argument("--seed", type=int, default=0, help="of people, motion and noise (default 0)")
    parser.add_argument("--person", action="append", default=[], help="a presenter (default: all)")
    parser.add_argument("--case", action="append", default=[], help=f"one of: {', '.join(CASES)} (default: all)")
    parser.add_argument("--video", type=Path, action="append", default=[], help="a recording of yours")
    parser.add_argument("--only-videos", action="store_true", help="no presenters")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="keep results there, and make none again")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the films there, and use those that are there")


def run(args: argparse.Namespace) -> dict:
    from m2dao.errors import ConfigError
    from m2dao.presenter import persons

    unknown = sorted(set(args.case) - set(CASES))
    if unknown:
        raise ConfigError(f"--case {unknown[0]!r}", f"one of {', '.join(CASES)}", "an unknown name")
    if args.rows is not None:
        check_file(args.rows, suffix=".jsonl")
    people = () if args.only_videos else (args.person or persons())
    wanted = [(person, case) for person in people for case in (args.case or CASES)]
    with _folder(args.work) as folder, showing("report") as show:
        films = _films(wanted, folder, args, show)
        recordings = [_recording(video, args.size, show) for video in args.video]
    for row in (*films, *recordings):
        print("  ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr)
    return {**score(films), "films": films, "recordings": recordings}


def score(films: list[dict[str, Any]]) -> dict[str, Any]:
    """How much of what was found is true, and how much of what is there was found."""
    num_found, num_owed = (sum(len(row[name]) for row in films) for name in ("found", "owed"))
    num_false, num_missed = (sum(len(row[name]) for row in films) for name in ("false", "missed"))
    return {
        "precision": rounded(1 - num_false / num_found) if num_found else None,
        "recall": rounded(1 - num_missed / num_owed) if num_owed else None,
        "num_findings": num_found,
        "num_owed": num_owed,
    }


def _films(wanted: list[tuple[str, str]], folder: Path, args: argparse.Namespace, show: Show) -> list[dict[str, Any]]:
    """A row for each film; those that are kept already are not made again."""
    key = [args.seconds, args.size, args.seed]
    lines = args.rows.read_text("utf-8").splitlines() if args.rows and args.rows.is_file() else []
    kept = {(row["person"], row["case"]): row for row in map(json.loads, lines) if row.pop("film") == key}
    films = []
    for person, case in wanted:
        if (person, case) not in kept:
            kept[person, case] = _film(person, case, folder, args, show)
            if args.rows:
                with args.rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"film": key} | kept[person, case]) + "\n")
        films.append(kept[person, case])
    return films


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
    from m2dao.presenter.people import get_person, somebody_like

    place = folder / f"{case.replace(' ', '-')}-{args.seconds:g}s-{args.size}px-{args.seed}"
    video = place / f"{person}.mp4"
    show(f"{person}, {case}: filming", 0.0)
    if not video.is_file():
        who = somebody_like(get_person(person), args.seed) if args.seed else get_person(person)
        video = make_recording(
            place,
            person=who,
            seconds=args.seconds,
            size=args.size,
            seed=args.seed,
            incidents=CASES[case],
        ).video
    report = _report(video, args.size, show)
    return {"person": person, "case": case} | judged(CASES[case], report)


def judged(incidents: tuple[str, ...], report: dict[str, Any]) -> dict[str, Any]:
    """What a report owes where these incidents happen, and what it tells."""
    from m2dao.presenter.incidents import get_incident

    owed = {finding for finding in (get_incident(name).finding for name in incidents) if finding}
    rejected = report["verdict"] == "rejected"
    found = {"refused"} if rejected else set(report["kinds"]) - set(_NOT_COUNTED)
    return {
        "owed": sorted(owed),
        "found": sorted(found),
        "false": sorted(found - owed),
        "missed": sorted(owed - found),
        "refused": report["problems"][0] if rejected else None,
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
