"""How far long work is, on standard error: a bar in a terminal, a few lines anywhere else.

In a log, every stage gets a line when it begins, and a line every ten seconds while it lasts. Numbers do not make a
stage: "step 20, loss 0.1" and "step 30, loss 0.2" are the same one.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

LINE_EVERY_S = 10.0
_BAR_EVERY_S = 0.1
_BAR = "{desc} {percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}{postfix}"
_BAR_WITHOUT_END = "{desc} {elapsed}{postfix}"
_NUMBERS = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?|\bnan\b")

Show = Callable[[str, float], None]
"""Called with what is being done, and with the share of everything that is done, 0 to 1."""

Item = TypeVar("Item")


class Progress:
    """Shows how far pieces of work are that go on side by side, each under its name.

    Args:
        names: of the pieces, shown in this order.
        stream: where to; standard error if None.
        clock: seconds, monotonic.
    """

    def __init__(
        self, names: Iterable[str], *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ):
        names = list(names)
        stream = sys.stderr if stream is None else stream
        width = max(map(len, names), default=0)
        kind = _Bar if stream.isatty() else _Lines
        self._shown = {name: kind(name.ljust(width), number, stream, clock) for number, name in enumerate(names)}

    def show(self, name: str, what: str, share: float | None) -> None:
        """Show what the work ``name`` is doing, and the share of it that is done; None where nobody knows."""
        self._shown[name].show(what, None if share is None else min(max(share, 0.0), 1.0))

    def close(self) -> None:
        """Leave what is shown as it is, and the cursor below it."""
        for shown in self._shown.values():
            shown.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def showing(name: str) -> Iterator[Show]:
    """Progress of one piece of work, which calls what it is given with what it does and the share done."""
    with Progress([name]) as progress:
        yield lambda what, share: progress.show(name, what, share)


@contextmanager
def counting(
    name: str, *, total: float | None = None, unit: str = "frames", per_unit: int = 1
) -> Iterator[Callable[[int], None]]:
    """Progress of work that is counted; it calls what it is given with how many more there are.

    Args:
        name: of the work.
        total: how many there will be; None if nobody knows.
        unit: what is counted.
        per_unit: how many make one unit, for example ``2**20`` bytes.
    """
    done = 0
    with Progress([name]) as progress:

        def count(more: int) -> None:
            nonlocal done
            done += more
            known = f" of {total / per_unit:.0f}" if total else ""
            progress.show(name, f"{done / per_unit:.0f}{known} {unit}", done / total if total else None)

        yield count


def counted(items: Iterable[Item], name: str, *, total: float | None = None, unit: str = "frames") -> Iterator[Item]:
    """The items, shown as they are taken. See ``counting``."""
    with counting(name, total=total, unit=unit) as count:
        for item in items:
            count(1)
            yield item


class _Bar:
    """One line of a terminal that is written over."""

    def __init__(self, name: str, number: int, stream: TextIO, clock: Callable[[], float]):
        from tqdm import tqdm

        self._clock = clock
        self._due_s = clock()
        self._bar: tqdm[Any] = tqdm(total=1.0, desc=name, position=number, file=stream, bar_format=_BAR)

    def show(self, what: str, share: float | None) -> None:
        self._bar.n = share or 0.0
        self._bar.bar_format = _BAR_WITHOUT_END if share is None else _BAR
        self._bar.set_postfix_str(what, refresh=False)
        if self._clock() >= self._due_s:
            self._due_s = self._clock() + _BAR_EVERY_S
            self._bar.refresh()

    def close(self) -> None:
        self._bar.close()  # shows the last state


class _Lines:
    """A few lines of a log."""

    def __init__(self, name: str, number: int, stream: TextIO, clock: Callable[[], float]):
        self._name, self._stream, self._clock = name, stream, clock
        self._began_s = clock()
        self._due_s = self._began_s
        self._what = ""
        self._stages: set[str] = set()

    def show(self, what: str, share: float | None) -> None:
        now_s = self._clock()
        is_new = what != self._what and self._is_new_stage(what)
        if not is_new and now_s < self._due_s:
            return
        self._due_s = now_s + LINE_EVERY_S
        minutes, seconds = divmod(int(now_s - self._began_s), 60)
        done = "" if share is None else f"{share:4.0%} "
        print(f"{self._name} {done}{minutes:02}:{seconds:02} {what}", file=self._stream, flush=True)

    def _is_new_stage(self, what: str) -> bool:
        """Whether this stage has had no line; stages may take turns, so all of them are remembered."""
        self._what = what
        stage = _NUMBERS.sub("#", what)
        is_new = stage not in self._stages
        self._stages.add(stage)
        return is_new

    def close(self) -> None:
        pass
