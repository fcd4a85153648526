"""What several commands have in common: how they are declared, and what they measure of themselves."""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], dict[str, Any]], *, summary: str, examples: str
) -> argparse.ArgumentParser:
    """Declare a command that answers with one JSON object where ``--json`` is given.

    Args:
        commands: to which it is added.
        name: of the command.
        run: does its work; the result is the object.
        summary: a few words, for the list of commands.
        examples: shown below its help as they are.
    """
    parser = commands.add_parser(
        name, help=summary, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    parser.set_defaults(run=run)
    return parser


def add_backend_argument(parser: argparse.ArgumentParser) -> None:
    """The choice of what renders."""
    parser.add_argument("--backend", help="cpu, gsplat or reference (default: the best here)")


def add_track_arguments(parser: argparse.ArgumentParser, *, video: bool = True) -> None:
    """The choice of tracks in a media file."""
    parser.add_argument(
        "--audio-track", type=int, metavar="N", help="number of the sound track (default: the one with the voice)"
    )
    if video:
        parser.add_argument("--video-track", type=int, metavar="N", help="number of the picture track (the largest)")


def add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    """What all fits of a comparison share, and where they are kept."""
    parser.add_argument("--size", type=int, default=256, help="pixels: 64, 128, 256 (default) or 512")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads of each fit (default: all)")
    add_backend_argument(parser)
    parser.add_argument(
        "--work", type=Path, default=Path("bench-quality"), help="folder for what is kept (bench-quality)"
    )


def peak_rss_mb() -> float:
    """The most memory this process ever had."""
    return rss_in_mib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def rss_in_mib(maxrss: int) -> float:
    """``ru_maxrss`` of a process in MiB: bytes on macOS, KiB here."""
    return maxrss / 2**20 if sys.platform == "darwin" else maxrss / 2**10


def rss_mb() -> float:
    """Memory of this process now; the most it ever had where there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    except OSError:
        return peak_rss_mb()
