"""What people and machines are shown: tables, one JSON object, and how far work is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TextIO

from m2dao_client.models.base import Model

LINE_EVERY_S = 10.0
_BAR_CELLS = 24


def table(rows: Sequence[Model], fields: Sequence[str]) -> str:
    """Some fields of rows under their names, as wide as what stands in them."""
    cells = [list(fields), *([_cell(getattr(row, field)) for field in fields] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M")
        case float():
            return f"{value:.3g}"
        case list():
            return ", ".join(str(item) for item in value) or "-"
    return str(value)


def details(body: Model) -> str:
    """All fields of one thing, a line each; what is empty is left out."""
    values = {name: value for name, value in body.model_dump(mode="json").items() if value not in (None, [], {}, "")}
    width = max(len(name) for name in values)
    return "\n".join(f"{name.ljust(width)}  {_short(value)}" for name, value in values.items())


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "; ".join(_short(inner) for inner in value)
    return _cell(value)


class Progress:
    """A bar in a terminal; elsewhere a line at every change of words, and every ten seconds.

    Args:
        stream: where to.
        clock: seconds, monotonic.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._is_terminal = self._stream.isatty()
        self._words, self._told_s, self._width = "", float("-inf"), 0

    def show(self, words: str, share: float | None, more: str = "") -> None:
        """Show what is being done and how much of it is done, 0 to 1."""
        percent = "" if share is None else f" {share:4.0%}"
        if self._is_terminal:
            filled = round(_BAR_CELLS * (share or 0.0))
            line = f"{words}{percent} [{'#' * filled}{'.' * (_BAR_CELLS - filled)}] {more}".rstrip()
            self._stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
            self._stream.flush()
        elif words != self._words or self._clock() - self._told_s >= LINE_EVERY_S:
            self._told_s = self._clock()
            print(f"{words}{percent} {more}".rstrip(), file=self._stream, flush=True)
        self._words = words

    def close(self) -> None:
        """Leave the bar as it is, and the cursor below it."""
        if self._is_terminal and self._words:
            self._stream.write("\n")
            self._stream.flush()
