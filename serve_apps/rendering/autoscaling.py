"""Decides how many renderer replicas would finish the backlog in time.

Requests are a bad measure here, because one render may be a hundred times longer than another. Each replica reports
(``record_autoscaling_stats``) the seconds of video that it has to make and how many it makes in a second, and what it
read of the queue in Redis, which is the same for all. Runs in Ray Serve's controller: imports nothing heavy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.settings import USUAL_REAL_TIME_FACTOR

_QUEUE = ("queued_seconds", "num_queued", "claimed_seconds", "num_claimed")
_OWN = ("running_seconds", "begun_seconds", "num_running", "throughput")


class BacklogPolicy:
    """A Ray Serve autoscaling policy.

    Args:
        target_wait_s: replicas are added until the work there is would be done within this time.
        concurrency: renders a replica does at the same time. How fast it is with them is measured; this only leaves
            out replicas that would have nothing to do.
    """

    def __init__(self, target_wait_s: float, concurrency: int = 1):
        self._target_wait_s = target_wait_s
        self._concurrency = concurrency

    def __call__(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        """The wanted number of replicas, before Serve's own bounds and delays, and no state."""
        # The newest report of each replica: an average over Serve's look-back would answer to the load of long ago.
        last = {
            (name, replica): series[-1]
            for name, by_replica in (ctx.raw_metrics or {}).items()
            for replica, series in by_replica.items()
            if series
        }
        readers = [
            (point.timestamp, str(replica), replica) for (name, replica), point in last.items() if name in _QUEUE
        ]
        queue = None
        if readers:  # one reading counts, the newest: others may be of a replica that Redis does not answer
            reader = max(readers)[2]
            queue = {name: last[name, reader].value for name in _QUEUE if (name, reader) in last}
        replicas = [
            {name: last[name, replica].value for name in _OWN if (name, replica) in last}
            for replica in {replica for name, replica in last if name in _OWN}
        ]
        wanted = desired_replicas(
            queue,
            replicas,
            target_wait_s=self._target_wait_s,
            concurrency=self._concurrency,
            current=ctx.target_num_replicas,
        )
        low, high = ctx.capacity_adjusted_min_replicas, ctx.capacity_adjusted_max_replicas
        return max(low, min(high, wanted)), {}


def desired_replicas(
    queue: Mapping[str, float] | None,
    replicas: Sequence[Mapping[str, float]],
    *,
    target_wait_s: float,
    concurrency: int,
    current: int,
) -> int:
    """Replicas that finish the reported work within ``target_wait_s``.

    Args:
        queue: ``queued_seconds`` and ``num_queued`` of what waits, ``claimed_seconds`` and ``num_claimed`` of what was
            taken from the queue; None while nobody could read it.
        replicas: of each ``running_seconds``, ``begun_seconds`` and ``num_running`` of its renders, and
            ``throughput`` once it was measured. What is claimed and not begun is on its way to one of them.
        target_wait_s: seconds.
        concurrency: renders a replica does at the same time.
        current: the answer while the queue could not be read.
    """
    if queue is None:
        return current

    def total(name: str) -> float:
        return sum(figures.get(name, 0.0) for figures in replicas)

    measured = [figures["throughput"] for figures in replicas if figures.get("throughput", 0.0) > 0]
    throughput = sum(measured) / len(measured) if measured else 1 / USUAL_REAL_TIME_FACTOR
    on_its_way_s = max(0.0, queue.get("claimed_seconds", 0.0) - total("begun_seconds"))
    video_s = queue["queued_seconds"] + on_its_way_s + total("running_seconds")
    num_open = queue.get("num_queued", 0.0) + max(total("num_running"), queue.get("num_claimed", 0.0))
    in_time = math.ceil(video_s / (throughput * target_wait_s) - 1e-9)
    return min(in_time, math.ceil(num_open / concurrency - 1e-9))
