"""Times the stages of a frame or a step; without a running clock it costs next to nothing.

The clock belongs to the process, not to a thread: stages that run beside each other each count their own time.
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


@contextlib.contextmanager
def clocked(stages: tuple[str, ...] = STAGES) -> Iterator[StageClock]:
    """Let a clock of these stages run inside; one at a time."""
    global _running
    clock = _running = StageClock(stages)
    try:
        yield clock
    finally:
        _running = None


def running_clock() -> StageClock | None:
    """The clock that runs now, for counts that cost something to make."""
    return _running


class timed:  # noqa: N801 (used like a function)
    """``with timed("raster"):`` adds the time inside to the running clock, if there is one."""

    __slots__ = ("_began", "_stage")

    def __init__(self, stage: str):
        self._stage = stage

    def __enter__(self) -> None:
        self._began = time.perf_counter() if _running is not None else 0.0

    def __exit__(self, *error) -> None:
        clock = _running
        if clock is not None and self._began:
            clock.add(self._stage, time.perf_counter() - self._began)
