"""`m2dao bench lips`: how well lips are predicted from sound, before any picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from m2dao.commands.shared import Commands, add_command

DEFAULT_PREDICTORS = "network,map:phones"
EXAMPLES = """examples:
  m2dao bench lips captures/anna captures/ben --seconds 7 18 --json
  m2dao bench lips captures/anna --seconds 7 --audio speech/*.wav --predictors map:phones

Each predictor learns from the first seconds of a capture's training part, and from all of it. It is judged by what
follows, up to the test part, which is left alone. Lip openings are read from predicted mouth shapes.

predictors are a kind of encoder and its features, as a recipe names them:
  network              the speech encoders of a fit, which hear phones
  map:phones           linear encoders, which hear English phones

--json prints {rows: [{capture, seconds, predictor, num_train, num_judged, r, opening_ratio, closure_ratio,
closure_precision, error}], voices: [{capture, seconds, predictor, voice, offset_frames, confidence, sure}]}; seconds
is null for the whole training part, error is a distance in the articulation's own unit.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "lips", run, summary="compare what predicts lips, before any picture", examples=EXAMPLES
    )
    parser.add_argument("captures", nargs="+", type=Path, metavar="CAPTURE", help="folders made by `m2dao prepare`")
    parser.add_argument("--seconds", nargs="*", type=float, default=[7.0, 18.0], help="lengths (default 7 18)")
    parser.add_argument("--audio", nargs="*", type=Path, default=[], help="voices of others, to judge sync by")
    parser.add_argument(
        "--predictors",
        default=DEFAULT_PREDICTORS,
        help=f"separated by commas (default {DEFAULT_PREDICTORS})",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the encoders (default 0)")


def run(args: argparse.Namespace) -> dict:
    from m2dao.capture.dataset import Capture
    from m2dao.comparison.lip_predictors import fit_predictor, judge_lips, judge_sync, lip_lesson
    from m2dao.media.audio import read_audio
    from m2dao.progress import counted
    from m2dao.timeline import FRAME_RATE, split_recording

    sounds = {path.stem: read_audio(path) for path in args.audio}
    rows, voices = [], []
    for path in counted(args.captures, "lips", total=len(args.captures), unit="captures"):
        capture = Capture.open(path)
        longest = len(split_recording(capture.num_frames).train) / FRAME_RATE
        for seconds in [*(s for s in args.seconds if s <= longest), None]:
            lesson = lip_lesson(capture, seconds)
            for name in args.predictors.split(","):
                predict = fit_predictor(name, lesson, seed=args.seed)
                about = {"capture": path.name, "seconds": seconds, "predictor": name}
                rows.append(about | judge_lips(lesson, predict))
                voices += [about | {"voice": v} | judge_sync(lesson, predict, s) for v, s in sounds.items()]
    if not args.json:
        _print_table(rows, voices)
    return {"rows": rows, "voices": voices}


def _print_table(rows: list[dict], voices: list[dict]) -> None:
    print(f"{'capture':<30}{'s':>5} {'predictor':<16}{'r':>6}{'spread':>8}{'closed':>8}{'right':>7}{'error':>7}")
    for row in rows:
        figures = [row[name] for name in ("opening_ratio", "closure_ratio", "closure_precision")]
        shown = [f"{'-' if value is None else format(value, '.2f'):>8}" for value in figures]
        print(
            f"{row['capture']:<30}{_length(row):>5} {row['predictor']:<16}{row['r']:>6.2f}{''.join(shown)}"
            f"{row['error']:>7.2f}"
        )
    for row in voices:
        sure = "sure" if row["sure"] else "by chance"
        print(
            f"{row['capture']:<30}{_length(row):>5} {row['predictor']:<16}{row['voice']:<30}"
            f"{row['offset_frames']:>6.1f}{row['confidence']:>7.2f} {sure}"
        )


def _length(row: dict) -> str:
    return "all" if row["seconds"] is None else f"{row['seconds']:g}"
