"""What is still to be finished while nothing new is accepted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.state.jobs import Jobs
from cluster.state.keys import KINDS
from m2dao.errors import ServiceError

LOOK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class OpenWork:
    """The open jobs of one kind."""

    kind: str
    num_queued: int
    num_running: int
    num_delayed: int  # put off, because something was away

    @property
    def num_open(self) -> int:
        return self.num_queued + self.num_running + self.num_delayed

    def __str__(self) -> str:
        return f"{self.kind}s: {self.num_running} running, {self.num_queued} queued, {self.num_delayed} put off"


def open_work(jobs: Jobs) -> tuple[OpenWork, ...]:
    """What is open of each kind, of all tenants, once jobs of dead workers are queued again."""
    for kind in KINDS:
        jobs.requeue_expired(kind)
    backlogs = {kind: jobs.backlog(kind) for kind in KINDS}
    return tuple(
        OpenWork(kind=kind, num_queued=each.num_queued, num_running=each.num_running, num_delayed=each.num_delayed)
        for kind, each in backlogs.items()
    )


def drain(
    jobs: Jobs, *, limit_s: float | None = None, sleep: Callable[[float], None] = time.sleep
) -> Iterator[tuple[OpenWork, ...]]:
    """What is open, each time when it has changed, until nothing is.

    Args:
        jobs: of all tenants.
        limit_s: how long to wait; None waits for as long as it takes.
        sleep: what is done between two looks, given the seconds.

    Raises:
        ServiceError: something is still open after ``limit_s``.
    """
    began, seen = time.monotonic(), None
    while True:
        now = open_work(jobs)
        if now != seen:
            seen = now
            yield now
        num_open = sum(each.num_open for each in now)
        if not num_open:
            return
        if limit_s is not None and time.monotonic() - began >= limit_s:
            remedy = "wait on, or cancel what shall not be waited for"
            raise ServiceError("open jobs", f"none after {limit_s:g} s", str(num_open), remedy)
        sleep(LOOK_S)
