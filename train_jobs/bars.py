"""How fits look to the person waiting for them: one bar each on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
from typing import TextIO

LINE_EVERY = 0.1  # in a log file: a line per stage and per tenth


class FitBars:
    """Shows the progress of several fits side by side on standard error.

    Args:
        names: one per fit, shown in this order.
        stream: where to; a terminal gets bars, anything else gets lines.
    """

    def __init__(self, names: list[str], stream: TextIO | None = None):
        self._stream = sys.stderr if stream is None else stream
        self._width = max(map(len, names), default=0)
        self._bars = {}
        self._last: dict[str, tuple[str, int]] = {}
        if self._stream.isatty():
            from tqdm import tqdm

            layout = "{desc} {percentage:3.0f}% |{bar:24}| {elapsed} {postfix}"
            for position, name in enumerate(names):
                self._bars[name] = tqdm(
                    total=1.0, desc=name.ljust(self._width), position=position, file=self._stream, bar_format=layout
                )

    def show(self, name: str, fraction: float, text: str) -> None:
        """Show that the fit ``name`` is ``fraction`` (0..1) of its way, with a few words on what it is doing."""
        if name in self._bars:
            bar = self._bars[name]
            bar.n = min(max(fraction, 0.0), 1.0)
            bar.set_postfix_str(text, refresh=False)
            bar.refresh()
            return
        stage = text.split(":")[0].split(" (")[0]
        mark = (stage, int(fraction / LINE_EVERY))
        if self._last.get(name) != mark:
            self._last[name] = mark
            print(f"{name.ljust(self._width)} {fraction:4.0%} {text}", file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the bars as they are and the cursor below them."""
        for bar in self._bars.values():
            bar.close()

    def __enter__(self) -> FitBars:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()
