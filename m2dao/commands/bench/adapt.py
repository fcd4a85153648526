"""`m2dao bench adapt`: a short fit from universal motion against a long one from scratch."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from m2dao.commands.shared import Commands, add_command, add_fit_arguments
from m2dao.progress import showing

EXAMPLES = """examples:
  m2dao universal captures/ben captures/cleo captures/dora --out universal/others
  m2dao bench adapt --clip anna.mp4 --universal universal/others --seconds 60 --minutes 10 --json

Three fits of one recording with the same capture, split, threads and seed: one from scratch in --minutes, one from
scratch in --seconds, and one from universal motion in --seconds. The motion must not have been learned from this
recording. Everything counts, from decoding to writing. Results are kept under --work, as by `m2dao bench quality`,
whose row m2dao is the first of the three.

--json prints {clip, size, rows: [as in bench quality, with fit_seconds and bytes],
short_of: [{name, protocol, psnr_db}]}: how far each short fit stays behind the long one.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "adapt", run, summary="a short fit from universal motion against a long one", examples=EXAMPLES
    )
    parser.add_argument("--clip", type=Path, required=True, help="a recording")
    parser.add_argument(
        "--universal", type=Path, required=True, metavar="DIR", help="made by `m2dao universal` from others"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="budget of the short fits (default 60)")
    parser.add_argument("--minutes", type=float, default=10.0, help="budget of the long fit (default 10)")
    add_fit_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    from m2dao.comparison.ablation import adaptation_rows
    from m2dao.comparison.report import side_by_side, table
    from m2dao.comparison.runs import Comparison, ComparisonConfig
    from m2dao.comparison.statistics import shortfalls
    from m2dao.errors import InputError
    from m2dao.training.universal import load_universal

    config = ComparisonConfig(
        size=args.size, minutes=args.minutes, seed=args.seed, num_threads=args.threads, backend=args.backend
    )
    universal = load_universal(args.universal)
    rows = adaptation_rows(universal, args.seconds)
    with showing(args.clip.name) as show:
        comparison = Comparison(args.clip, args.work, config, show)
        if comparison.capture_sha256 in universal.sources:
            raise InputError(
                str(args.universal),
                "motion learned from other recordings",
                f"{args.clip.name} is among them",
                "learn it without this recording",
            )
        entries = comparison.run(rows)
    result = {"clip": args.clip.name, "size": args.size, "rows": entries, "short_of": shortfalls(entries)}
    (comparison.folder / "adaptation.json").write_text(json.dumps(result, indent=2) + "\n")
    films = {row.name: comparison.film(row.name, "portrait") for row in rows}
    side_by_side(films, comparison.folder / "adaptation.mp4")
    print(f"\n{args.clip.name}, {args.size} px ({comparison.folder})\n{table(entries)}", file=sys.stderr)
    return result
