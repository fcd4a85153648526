"""What a replica tells the autoscaler."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cluster.state.jobs import Jobs
from serve_apps.tickets import SERVED

_LONGEST_SAMPLE_S = 30.0  # of a render that takes minutes; loading counts little then
_FORGET_S = 600.0  # after so long without as many renders at once, what fewer of them show counts
_NEW = 0.3  # weight of a sample beside those before it


class Load:
    """How much a replica has to do, and how much video it makes in a second. Safe between threads.

    Throughput is that of the whole replica, with loading and storing, because renders at the same time share its cores
    or its GPU. It is judged by the times when there is most to do: a replica with one render could do more.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._remaining: dict[str, float] = {}  # job -> seconds of video to go
        self._whole: dict[str, float] = {}  # job -> seconds of video when it began
        self._last = 0.0  # when busy time was last counted
        self._made_s = self._busy_s = self._render_s = 0.0  # of this sample: video, wall time, wall time of each render
        self._throughput: float | None = None
        self._level = 0  # renders at the same time that this was measured with
        self._reached = 0.0  # when there were last so many

    def left(self, job_id: str, seconds: float) -> None:
        """Say how many seconds of video a job still has to be made; 0 when it is all made."""
        with self._lock:
            self._count()
            before = self._remaining.get(job_id)
            if before is None and seconds <= 0:
                return
            self._whole.setdefault(job_id, seconds)
            self._made_s += max(0.0, (before or seconds) - seconds)
            self._remaining[job_id] = seconds
            if self._busy_s >= _LONGEST_SAMPLE_S:
                self._sample()

    def over(self, job_id: str) -> None:
        """A job has ended, well or not; nothing when it had not begun."""
        with self._lock:
            self._count()
            if self._remaining.pop(job_id, None) is not None:
                del self._whole[job_id]
                self._sample()

    def figures(self) -> dict[str, float]:
        """Seconds of video under way, renders under way and, once measured, seconds of video made in a second."""
        with self._lock:
            figures = {
                "running_seconds": sum(self._remaining.values()),
                "begun_seconds": sum(self._whole.values()),
                "num_running": float(len(self._remaining)),
            }
            return figures if self._throughput is None else {**figures, "throughput": self._throughput}

    def _count(self) -> None:
        now = self._clock()
        if self._remaining:
            self._busy_s += now - self._last
            self._render_s += (now - self._last) * len(self._remaining)
        self._last = now

    def _sample(self) -> None:
        made_s, busy_s, render_s = self._made_s, self._busy_s, self._render_s
        if made_s <= 0 or busy_s <= 0:  # it failed before its first frame: the time counts for the next one
            return
        self._made_s = self._busy_s = self._render_s = 0.0
        rate, level = made_s / busy_s, round(render_s / busy_s)
        if self._throughput is None or level > self._level or self._last - self._reached > _FORGET_S:
            self._throughput, self._level = rate, level
        elif level == self._level:
            self._throughput += _NEW * (rate - self._throughput)
        else:
            self._throughput = max(self._throughput, rate)
        if level >= self._level:
            self._reached = self._last


def queue_figures(jobs: Jobs) -> dict[str, float]:
    """What waits, and what was taken from the queue, of the renders that replicas of this release can do.

    The rest is left to replicas of another release: however many of ours there were, none would ever get it.
    """
    backlog = jobs.backlog("render", serves=SERVED)
    return {
        "queued_seconds": backlog.queued_cost,
        "num_queued": float(backlog.num_queued),
        "claimed_seconds": backlog.running_cost,
        "num_claimed": float(backlog.num_running),
    }
