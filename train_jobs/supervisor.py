"""Starts the workers of a batch in steps, and waits for them. Knows nothing of Ray."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from cluster.state.jobs import Jobs
from cluster.state.records import JobRecord
from m2dao.errors import ServiceUnavailable
from train_jobs.members import BatchSpec, known_jobs, ranks_at_work
from train_jobs.turns import gives_way, want_place

_LOOK_S = 1.0  # how often it is seen whether more workers are wanted
_STARTS_S = 10.0  # how long a worker may take to begin where there is a place for it
_RESTS_S = 30.0  # how long a worker that gave way waits for others to use the place


def run_in_steps(jobs: Jobs, batch: BatchSpec, run: Callable[[int], None], *, most: int) -> bool:
    """Run workers until none of the batch's fits can be taken on any more.

    Args:
        jobs: the fits.
        batch: which of them.
        run: runs the worker of a rank to its end, in a thread of its own; again when it has given way and fits wait.
        most: how many workers there may be.

    Returns:
        whether all workers have ended. Others wait for places that nobody needs any more, until this process ends.

    Raises:
        what ``run`` raised, when all have ended and one of them so.
    """
    workers = _Workers(jobs, batch, run, most=min(most, len(batch.fit_ids)))
    while not workers.are_over:
        with contextlib.suppress(ServiceUnavailable):  # a store that is away ends no worker; we look again
            records = known_jobs(jobs, batch)
            if workers.are_idle and all(job.finished for job in records):
                break
            workers.look(records)
        workers.wait(_LOOK_S)
    return workers.outcome()


class _Workers:
    """The workers of a batch, by rank: asked for, at work, resting, or over.

    A worker rests when it has left its place to another tenant. It is asked for again when no other's turn is before
    ours, or after a while: who waits may be unable to use the place.
    """

    def __init__(self, jobs: Jobs, batch: BatchSpec, run: Callable[[int], None], *, most: int):
        self._jobs, self._batch, self._run, self._most = jobs, batch, run, most
        self._ended = queue.SimpleQueue[tuple[int, BaseException | None]]()
        self._asked_for = dict[int, float]()  # since when
        self._at_work = dict[int, float]()  # when last seen at a fit
        self._resting = dict[int, float]()  # since when
        self._over = dict[int, BaseException | None]()

    @property
    def are_over(self) -> bool:
        return bool(self._over) and not (self._asked_for or self._at_work or self._resting)

    @property
    def are_idle(self) -> bool:
        """Whether none is at work, of at least one that was asked for."""
        return self._num > 0 and not self._at_work

    def outcome(self) -> bool:
        """Whether none is left; raises what one of them has, if none is."""
        if self._asked_for or self._at_work:
            return False
        for error in self._over.values():
            if error is not None:
                raise error
        return True

    def look(self, records: Sequence[JobRecord]) -> None:
        """See who has begun, and ask for those that are wanted now."""
        self._see(ranks_at_work(self._batch, records))
        self._end_rests(records)
        wanted = num_to_start(records, num_started=self._num, num_begun=self._num - len(self._asked_for))
        if wanted and not self._resting and not (self._num and self._gives_way(to_resting=True)):
            for rank in range(self._num, min(self._most, self._num + wanted)):
                self._start(rank)
        late = [rank for rank, since in self._asked_for.items() if time.monotonic() - since > _STARTS_S]
        if self._resting or any(_could_begin(rank, records) for rank in late):
            want_place(self._jobs, self._batch.tenant, rests=bool(self._resting))

    def wait(self, timeout_s: float) -> None:
        """Wait until a worker ends, or for so long."""
        with contextlib.suppress(queue.Empty):
            rank, error = self._ended.get(timeout=timeout_s)
            self._asked_for.pop(rank, None)
            self._at_work.pop(rank, None)
            if error is None:
                self._resting[rank] = time.monotonic()  # until we have looked whether anything is left for it
            else:
                self._over[rank] = error

    @property
    def _num(self) -> int:
        return len(self._asked_for) + len(self._at_work) + len(self._resting) + len(self._over)

    def _see(self, ranks: Iterable[int]) -> None:
        """Note who is at a fit now. Who has long not been seen may have lost its node, and waits for another."""
        now = time.monotonic()
        for rank in ranks:
            if self._asked_for.pop(rank, None) is not None or rank in self._at_work:
                self._at_work[rank] = now
        for rank, seen in list(self._at_work.items()):
            if now - seen > _STARTS_S:
                self._asked_for[rank] = self._at_work.pop(rank)

    def _gives_way(self, *, to_resting: bool) -> bool:
        return gives_way(self._jobs, self._batch.tenant, to_resting=to_resting)

    def _end_rests(self, records: Sequence[JobRecord]) -> None:
        for rank, since in list(self._resting.items()):
            # Suspects are the business of rank 0.
            is_wanted = any(_is_fresh(job) or (rank == 0 and job.status == "queued") for job in records)
            if not is_wanted:
                self._over[rank] = None
            elif time.monotonic() - since > _RESTS_S or not self._gives_way(to_resting=False):
                self._start(rank)
            else:
                continue
            del self._resting[rank]

    def _start(self, rank: int) -> None:
        def run() -> None:
            try:
                self._run(rank)
            except BaseException as error:  # of whatever kind: somebody waits for it
                self._ended.put((rank, error))
            else:
                self._ended.put((rank, None))

        self._asked_for[rank] = time.monotonic()
        threading.Thread(target=run, name=f"worker {rank}", daemon=True).start()


def num_to_start(records: Iterable[JobRecord], *, num_started: int, num_begun: int) -> int:
    """How many more workers to ask for: one, and twice as many each time that those before have begun.

    Each that waits for a place costs a controller. A large cluster is still filled within a few starts of nodes.

    Args:
        records: the fits.
        num_started: workers that were asked for.
        num_begun: those of them that have begun.
    """
    if num_started == 0:
        return 1
    return max(0, min(sum(map(_is_fresh, records)), max(1, num_begun) - (num_started - num_begun)))


def _is_fresh(job: JobRecord) -> bool:
    return job.status == "queued" and job.attempt == 0 and not job.retry_at_s


def _could_begin(rank: int, records: Sequence[JobRecord]) -> bool:
    """Whether there is a fit that the worker of a rank could take now; see the rules in ``worker.py``."""
    if any(map(_is_fresh, records)):
        return True
    is_alone = not any(job.status == "running" for job in records)
    return rank == 0 and is_alone and any(job.status == "queued" and not job.retry_at_s for job in records)
