"""`m2dao fit`: capture in, identity out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from m2dao.commands.outputs import check_folder
from m2dao.commands.shared import Commands, add_backend_argument, add_command
from m2dao.formats import IDENTITY

EXAMPLES = """examples:
  m2dao fit captures/anna --out identities/anna --size 256 --minutes 10
  m2dao fit captures/anna --out identities/anna --steps 2000 --seed 1     (the same result each time)
  m2dao fit captures/anna --out identities/anna --universal universal/site --minutes 1
  m2dao fit captures/anna --out identities/base --recipe talking_gaussian --minutes 10
  m2dao fit captures/few-seconds --out identities/anna --recipe m2dao_seconds

A fit that was interrupted goes on where it was when the same command is given again. While it runs, OUT.fit/ holds
metrics.jsonl and strip.jpg (recording above, render below).

--json prints {steps, seconds, steps_per_s, num_gaussians, loss, psnr_train_db, speech_held_out_r, stored_loss_db,
recipe, size, frames_left_out}.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "fit", run, summary="fit an identity to a capture", examples=EXAMPLES)
    parser.add_argument("capture", type=Path, help="folder made by `m2dao prepare`")
    parser.add_argument("--out", type=Path, help="identity folder (default: identities/NAME OF THE CAPTURE)")
    parser.add_argument(
        "--recipe", default="m2dao", help="m2dao (default), m2dao_seconds, talking_gaussian or talking_gaussian_plus"
    )
    parser.add_argument("--size", type=int, default=256, help="pixels: 64, 128, 256 (default) or 512")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="time budget, everything included (default: 10)")
    budget.add_argument("--steps", type=int, help="budget in steps")
    parser.add_argument("--universal", type=Path, metavar="DIR", help="motion to start from, made by `m2dao universal`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads")
    add_backend_argument(parser)
    parser.add_argument("--work-dir", type=Path, help="where step checkpoints and pictures go (default: OUT.fit)")


def run(args: argparse.Namespace) -> dict:
    from m2dao.progress import showing
    from m2dao.training.fit import fit, usual_work_dir
    from m2dao.training.universal import load_universal

    out = args.out or Path("identities") / args.capture.name
    check_folder(out, replaces=IDENTITY)
    check_folder(args.work_dir or usual_work_dir(out))
    universal = load_universal(args.universal) if args.universal else None
    minutes = 10.0 if args.minutes is None and args.steps is None else args.minutes
    with showing("fit") as show:
        result = fit(
            args.capture,
            out,
            recipe=args.recipe,
            size=args.size,
            minutes=minutes,
            steps=args.steps,
            seed=args.seed,
            work_dir=args.work_dir,
            num_threads=args.threads,
            backend=args.backend,
            universal=universal,
            on_progress=lambda report: show(report.describe(), report.progress),
        )
    print(
        f"identity written to {out}: {result.steps} steps in {result.seconds:.0f} s, "
        f"{result.num_gaussians} Gaussians, {result.psnr_train_db:.2f} dB on the training part",
        file=sys.stderr,
    )
    return result.as_dict()
