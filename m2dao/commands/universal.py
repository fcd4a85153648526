"""`m2dao universal`: motion learned from several people, for fits to start from."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import entry_points
from pathlib import Path

from m2dao.commands.outputs import check_folder
from m2dao.commands.shared import Commands, add_command
from m2dao.formats import UNIVERSAL
from m2dao.progress import showing

EXAMPLES = """examples:
  m2dao universal captures/anna captures/ben captures/cleo --out universal/site
  m2dao fit captures/dora --out identities/dora --universal universal/site --minutes 1
  m2dao universal captures/* --out universal/site --rounds 20 --on here

The voice (sound to lips) and the fields (how lips and face move with it) are learned from all captures together; every
person keeps Gaussians of their own, which do not go into the result. It is made on Ray, a worker for each core: on the
platform's cluster where M2DAO_RAY_ADDRESS names one that sees the same folders, else on one started for the purpose.
A command that was interrupted goes on after its last whole round when it is given again.

--json prints {captures, rounds, steps, seconds, speech_held_out_r, psnr_train_db, num_bytes}.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "universal",
        run,
        summary="learn motion from several captures, for fits to start from",
        examples=EXAMPLES,
    )
    parser.add_argument("captures", nargs="+", type=Path, metavar="CAPTURE", help="folders made by `m2dao prepare`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the universal motion")
    parser.add_argument("--size", type=int, default=128, help="pixels it is learned at: 64, 128 (default), 256 or 512")
    parser.add_argument("--rounds", type=int, default=12, help="how often everybody's motion is averaged (default 12)")
    parser.add_argument("--steps", type=int, default=250, help="of everybody's fit in a round (default 250)")
    parser.add_argument("--speech-steps", type=int, default=1500, help="batches for the voice, at most (default 1500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--on", choices=("ray", "here"), default="ray", help="ray (default), or here: one process")
    parser.add_argument(
        "--work-dir", type=Path, help="what is needed to go on after an interruption (default: OUT.learn)"
    )


def run(args: argparse.Namespace) -> dict:
    from m2dao.training.universal_fit import UniversalConfig, learn_universal, learners_here

    config = UniversalConfig(
        size=args.size, rounds=args.rounds, steps_per_round=args.steps, speech_steps=args.speech_steps, seed=args.seed
    )
    check_folder(args.out, replaces=UNIVERSAL)
    if args.work_dir is not None:
        check_folder(args.work_dir)
    with showing("universal") as show:
        result = learn_universal(
            args.captures,
            args.out,
            config,
            work_dir=args.work_dir,
            gather=learners_here if args.on == "here" else _learners_on_ray(),
            on_progress=show,
        )
    print(
        f"universal motion of {result.captures} people written to {args.out} ({result.num_bytes / 1e6:.1f} MB, "
        f"{result.seconds:.0f} s); it predicts held-out lips with r {result.speech_held_out_r:.2f}",
        file=sys.stderr,
    )
    return result.as_dict()


def _learners_on_ray():
    """What the package's distributed half offers; the engine itself knows nothing of Ray."""
    (offered,) = entry_points(group="m2dao.learners", name="ray")
    return offered.load()
