"""The `m2dao` command: from a recording to a film of somebody who speaks any sound.

Each command is a module of `m2dao.commands` with two functions: ``add_parser(subparsers)`` and ``run(args) -> dict``.
A command writes progress to standard error; with ``--json`` its result is the one object on standard output.
Exit codes: 0 done, 1 our fault, 2 bad input or usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from m2dao import __version__
from m2dao.command_line import run_command

# Threads that wait for work must sleep, not spin: beside other busy processes spinning costs many times more than
# waking. OpenMP reads this once, when torch is loaded, so it stands before any command imports it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

COMMANDS = (
    *("probe", "prepare", "fit", "universal", "render"),
    *("evaluate", "inspect", "bench", "presenter", "assets"),
)
DESCRIPTION = """From a plain video of a person to an identity that speaks any audio.

examples:
  m2dao probe anna.mp4
  m2dao prepare anna.mp4 --out captures/anna
  m2dao fit captures/anna --out identities/anna --size 256 --minutes 10
  m2dao render identities/anna --audio speech.wav --out anna-speaks.mp4
  m2dao evaluate identities/anna captures/anna --protocol portrait --json
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2dao", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"m2dao {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"m2dao.commands.{name}").add_parser(subparsers)
    return parser


def _as_path(word: str) -> str:
    """A word of the command line; a file whose name begins with a dash must not be taken for an option."""
    is_file = word.startswith("-") and "." in word and os.path.lexists(word)
    return f"./{word}" if is_file else word


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = build_parser().parse_args([_as_path(word) for word in (sys.argv[1:] if argv is None else argv)])
    return run_command(f"m2dao {args.command}", lambda: args.run(args), as_json=getattr(args, "json", False))


if __name__ == "__main__":
    sys.exit(main())
