"""Starts the workers of a batch in steps, and waits for them. Knows nothing of Ray."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable

from cluster.state.jobs import Jobs
from cluster.state.records import JobRecord
from m2dao.errors import ServiceUnavailable
from train_jobs.members import BatchSpec, known_jobs, ranks_at_work

_LOOK_S = 1.0  # how often it is seen whether more workers are wanted


def run_in_steps(jobs: Jobs, batch: BatchSpec, run: Callable[[int], None], *, most: int) -> bool:
    """Run workers until none of the batch's fits can be taken on any more.

    Args:
        jobs: the fits.
        batch: which of them.
        run: runs the worker of a rank to its end, in a thread of its own.
        most: how many workers there may be.

    Returns:
        whether all workers have ended. Others wait for places that nobody needs any more, until this process ends.

    Raises:
        what ``run`` raised, when all have ended and one of them so.
    """
    most = min(most, len(batch.fit_ids))
    ended = queue.SimpleQueue[tuple[int, BaseException | None]]()

    def run_one(rank: int) -> None:
        try:
            run(rank)
        except BaseException as error:  # of whatever kind: somebody waits for it
            ended.put((rank, error))
        else:
            ended.put((rank, None))

    num_started, begun, errors = 0, set[int](), dict[int, BaseException | None]()
    while len(errors) < num_started or not num_started:
        with contextlib.suppress(ServiceUnavailable):  # a store that is away ends no worker; we look again
            records = known_jobs(jobs, batch)
            begun |= ranks_at_work(batch, records)
            if num_started and begun <= errors.keys() and all(job.finished for job in records):
                break
            wanted = num_to_start(records, num_started=num_started, num_begun=len(begun))
            for rank in range(num_started, min(most, num_started + wanted)):
                threading.Thread(target=run_one, args=(rank,), name=f"worker {rank}", daemon=True).start()
                num_started += 1
        with contextlib.suppress(queue.Empty):
            rank, error = ended.get(timeout=_LOOK_S)
            begun.add(rank)
            errors[rank] = error
    has_ended = len(errors) == num_started
    for error in errors.values():
        if error is not None and has_ended:
            raise error
    return has_ended


def num_to_start(records: Iterable[JobRecord], *, num_started: int, num_begun: int) -> int:
    """How many more workers to ask for: one, and twice as many each time that those before have begun.

    Each that waits for a place costs a controller. A large cluster is still filled within a few starts of nodes.

    Args:
        records: the fits.
        num_started: workers that were asked for.
        num_begun: those of them that have begun.
    """
    fresh = [job for job in records if job.status == "queued" and job.attempt == 0 and not job.retry_at_s]
    if num_started == 0:
        return 1
    return max(0, min(len(fresh), max(1, num_begun) - (num_started - num_begun)))
