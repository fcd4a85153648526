"""What commands that fit several times have in common."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    """What all fits of a comparison share, and where they are kept."""
    parser.add_argument("--size", type=int, default=256, help="pixels: 64, 128, 256 (default) or 512")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads of each fit (default: all)")
    parser.add_argument("--backend", help="cpu, gsplat or reference (default: the best here)")
    parser.add_argument(
        "--work", type=Path, default=Path("bench-quality"), help="folder for what is kept (bench-quality)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
