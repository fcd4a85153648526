"""Budgets of a fit, in steps or minutes, and its progress through them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from m2dao.errors import ConfigError

_FRAMES_PER_S = 8.0  # of a budget in minutes, that are worth decoding: others would come up less than twice
_LEAST_FRAMES = 250
_FINISH_SHARE, _FINISH_S = 0.01, 1.5  # of a budget in minutes, kept for writing the identity and measuring its cost


class ProgressBegin(NamedTuple):
    """Where a process begins with its steps."""

    progress: float
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class FitBudget:
    """When a fit ends: exactly one of the two is set."""

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self):
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError("fit budget", "either steps or minutes", f"steps={self.steps}, minutes={self.minutes}")
        if self.steps is not None and self.steps < 1:
            raise ConfigError("fit steps", "at least 1", str(self.steps))
        if self.minutes is not None and not 0 < self.minutes <= 10_000:
            raise ConfigError("fit minutes", "more than 0", str(self.minutes))

    @property
    def num_frames(self) -> int:
        """How many frames of a recording are worth decoding."""
        wanted = 60 * _FRAMES_PER_S * self.minutes if self.minutes is not None else (self.steps or 0) / 2
        return max(_LEAST_FRAMES, round(wanted))

    def progress(self, step: int, elapsed_s: float, begin: ProgressBegin) -> float:
        """0 at the first step, 1 when the budget is used up.

        Args:
            step, elapsed_s: taken so far, preparations included.
            begin: where the steps of this process began. What came before them counts in a budget of minutes, but not
                as progress, or the schedule's first phases would fall to the preparations.
        """
        if self.steps is not None or self.minutes is None:
            return step / (self.steps or 1)
        left_s = 60 * self.minutes * (1 - _FINISH_SHARE) - _FINISH_S - begin.elapsed_s
        return begin.progress + (1 - begin.progress) * (elapsed_s - begin.elapsed_s) / left_s if left_s > 0 else 1.0


@dataclass
class FitClock:
    """How long a fit has gone on, in all processes that worked on it.

    Attributes:
        started_s: when this one began, by ``time.monotonic``.
        elapsed_before_s: in the others.
        begin: where this one began with its steps.
    """

    budget: FitBudget
    started_s: float = field(default_factory=time.monotonic)
    elapsed_before_s: float = 0.0
    begin: ProgressBegin = ProgressBegin(progress=0.0, elapsed_s=0.0)

    def elapsed_s(self) -> float:
        return self.elapsed_before_s + time.monotonic() - self.started_s

    def progress(self, step: int) -> float:
        """0 at the first step, 1 when the budget is used up."""
        return self.budget.progress(step, self.elapsed_s(), self.begin)
