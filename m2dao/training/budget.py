"""How long a fit goes on."""

from __future__ import annotations

from dataclasses import dataclass

from m2dao.errors import ConfigError

_FRAMES_PER_S = 8.0  # of a budget in minutes, that are worth decoding: others would come up less than twice
_LEAST_FRAMES = 250
_FINISH_SHARE = 0.01  # of a budget in minutes, kept for writing the identity


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
        wanted = self.steps / 2 if self.minutes is None else 60 * _FRAMES_PER_S * self.minutes
        return max(_LEAST_FRAMES, round(wanted))

    def progress(self, step: int, elapsed_s: float) -> float:
        """0 at the start, 1 when the budget is used up."""
        if self.steps is not None:
            return step / self.steps
        return elapsed_s / (60 * self.minutes * (1 - _FINISH_SHARE))
