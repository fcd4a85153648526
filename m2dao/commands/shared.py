"""What commands that fit several times have in common: their bar, and how each fit is made."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_REFRESH_S = 0.25


@contextmanager
def told_bar(title: str) -> Iterator[Callable[[str, float], None]]:
    """A bar on standard error, moved by calls with what is being done and the share done."""
    from tqdm import tqdm

    shown_s = 0.0
    with tqdm(total=1.0, file=sys.stderr, bar_format="{desc} {percentage:3.0f}%|{bar:20}| {elapsed}") as bar:

        def show(what: str, share: float) -> None:
            nonlocal shown_s
            if time.monotonic() - shown_s > _REFRESH_S:
                shown_s = time.monotonic()
                bar.set_description_str(f"{title}: {what}", refresh=False)
                bar.n = min(1.0, share)
                bar.refresh()

        yield show


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
