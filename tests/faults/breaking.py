"""Ways to break a part, and to wait for what the others make of it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

WAIT_S = 150.0  # for what comes in a few seconds on a machine that has nothing else to do


def cannot(needs: str) -> NoReturn:
    """This machine cannot break what a cell breaks. People may skip it; where ``CI`` is set it fails.

    Args:
        needs: a sentence that says what is needed.
    """
    pytest.fail(needs) if os.environ.get("CI") else pytest.skip(needs)


def until(condition: Callable[[], Any], what: str, *, wait_s: float = WAIT_S, pause_s: float = 0.05) -> Any:
    """Poll, because the processes that change things are not ours; returns what the condition found."""
    deadline = time.monotonic() + wait_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {wait_s:g} s: {what}")
        threading.Event().wait(pause_s)
    return found


def last(seconds: float) -> None:
    """Let a fault last; nothing tells that it has lasted long enough."""
    threading.Event().wait(seconds)


def kill(pids: Iterable[int]) -> None:
    """End processes without a word."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    """Processes stand still, as on a machine that was suspended or swaps."""
    still = []
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            still.append(pid)
        yield
    finally:
        for pid in still:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """The disk of a folder has no byte left."""
    ballast = folder / "ballast"
    try:
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 65536)
        yield
    finally:
        ballast.unlink()
