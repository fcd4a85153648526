"""What a replica tells the autoscaler."""

from __future__ import annotations

import threading

from cluster.settings import USUAL_REAL_TIME_FACTOR


class Load:
    """How much a replica has to do and how fast it is. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._remaining: dict[str, float] = {}  # job -> seconds of video to go
        self._whole: dict[str, float] = {}  # job -> seconds of video when it began
        self._real_time_factor = USUAL_REAL_TIME_FACTOR

    def left(self, job_id: str, seconds: float) -> None:
        """Say how many seconds of video a job still has; 0 when it is over."""
        with self._lock:
            if seconds > 0:
                self._remaining[job_id] = seconds
                self._whole.setdefault(job_id, seconds)
            else:
                self._remaining.pop(job_id, None)
                self._whole.pop(job_id, None)

    def measured(self, real_time_factor: float) -> None:
        """Count a finished render's speed in."""
        with self._lock:
            self._real_time_factor += 0.3 * (real_time_factor - self._real_time_factor)

    def figures(self) -> dict[str, float]:
        """Seconds of video under way, renders under way, and seconds of work per second of video."""
        with self._lock:
            return {
                "running_seconds": sum(self._remaining.values()),
                "begun_seconds": sum(self._whole.values()),
                "num_running": float(len(self._remaining)),
                "real_time_factor": self._real_time_factor,
            }
