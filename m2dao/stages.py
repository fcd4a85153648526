"""Times the stages of a frame or a step; without a running clock it costs next to nothing.

The clock of ``clocked`` belongs to the process: stages that run beside each other each count their own time. That of
``clocked_here`` belongs to a thread.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

STAGES = ("audio", "motion", "project", "bin", "raster", "composite", "encode")  # of a frame
FIT_STAGES = ("target", "features", "pose", "render", "loss", "backward", "optimiser")  # of a step


class StageClock:
    """Seconds spent in each of some stages, and Gaussian-pixel pairs blended."""

    def __init__(self, stages: tuple[str, ...]) -> None:
        self._lock, self._stages = threading.Lock(), stages
        self.reset()

    def add_pairs(self, pairs: int) -> None:
        with self._lock:
            self.pairs += pairs

    def add(self, stage: str, seconds: float) -> None:
        with self._lock:
            if stage in self.seconds:
                self.seconds[stage] += seconds

    def reset(self) -> None:
        with self._lock:
            self.seconds = dict.fromkeys(self._stages, 0.0)
            self.pairs = 0


_running: StageClock | None = None
_here = threading.local()


@contextlib.contextmanager
def clocked(stages: tuple[str, ...] = STAGES) -> Iterator[StageClock]:
    """Let a clock of these stages run inside; one at a time."""
    global _running
    clock = _running = StageClock(stages)
    try:
        yield clock
    finally:
        _running = None


@contextlib.contextmanager
def clocked_here(stages: tuple[str, ...] = STAGES) -> Iterator[StageClock]:
    """Let a clock run for what this thread alone does inside; other threads may have their own."""
    before, clock = getattr(_here, "clock", None), StageClock(stages)
    _here.clock = clock
    try:
        yield clock
    finally:
        _here.clock = before


def running_clock() -> StageClock | None:
    """The clock that runs now, for counts that cost something to make."""
    return _running


class timed:  # noqa: N801 (used like a function)
    """``with timed("raster"):`` adds the time inside to the running clock, if there is one."""

    __slots__ = ("_began", "_stage")

    def __init__(self, stage: str):
        self._stage = stage

    def __enter__(self) -> None:
        wanted = _running is not None or getattr(_here, "clock", None) is not None
        self._began = time.perf_counter() if wanted else 0.0

    def __exit__(self, *error) -> None:
        if self._began:
            seconds = time.perf_counter() - self._began
            for clock in (_running, getattr(_here, "clock", None)):
                if clock is not None:
                    clock.add(self._stage, seconds)
