"""Decides how many renderer replicas would finish the backlog in time.

Requests are a bad measure here, because one render may be a hundred times longer than another. Each replica reports
(``record_autoscaling_stats``) the seconds of audio that wait in Redis, what it still has to do of its own renders, and
how fast it is; from these follow the seconds of work there are. Runs in Ray Serve's controller: imports nothing heavy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class BacklogPolicy:
    """A Ray Serve autoscaling policy.

    Args:
        target_wait_s: replicas are added until the work there is would be done within this time.
        concurrency: renders a replica does at the same time. They share its cores, so they make it wait less for
            storage, but not faster: it is only used to leave out replicas that would have nothing to do.
    """

    def __init__(self, target_wait_s: float, concurrency: int = 1):
        self._target_wait_s = target_wait_s
        self._concurrency = concurrency

    def __call__(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        """The wanted number of replicas, before Serve's own bounds and delays, and no state."""
        # The newest report of each replica: an average over Serve's look-back would answer to the load of long ago.
        stats = {
            name: {replica: series[-1].value for replica, series in by_replica.items() if series}
            for name, by_replica in (ctx.raw_metrics or {}).items()
        }
        wanted = desired_replicas(
            stats, target_wait_s=self._target_wait_s, concurrency=self._concurrency, current=ctx.target_num_replicas
        )
        low, high = ctx.capacity_adjusted_min_replicas, ctx.capacity_adjusted_max_replicas
        return max(low, min(high, wanted)), {}


def desired_replicas(
    stats: Mapping[str, Mapping[Any, float]], *, target_wait_s: float, concurrency: int, current: int
) -> int:
    """Replicas that finish the reported work within ``target_wait_s``.

    Args:
        stats: figure -> replica -> value. ``queued_seconds`` and ``num_queued`` are the same queue seen by each
            replica (the largest counts), and so are ``claimed_seconds`` and ``num_claimed`` of what was taken from it.
            ``running_seconds``, ``begun_seconds`` and ``num_running`` are each replica's own (the sum). What is
            claimed and not begun is on its way to a replica.
        target_wait_s: seconds.
        concurrency: renders a replica does at the same time.
        current: the answer while no replica has reported yet.
    """

    def values(name: str) -> list[float]:
        return [float(value) for value in (stats.get(name) or {}).values()]

    if not values("queued_seconds"):
        return current
    factors = values("real_time_factor") or [1.0]
    speed = sum(factors) / len(factors)  # seconds of work per second of video
    on_its_way_s = max(0.0, max(values("claimed_seconds"), default=0.0) - sum(values("begun_seconds")))
    work_s = speed * (max(values("queued_seconds")) + on_its_way_s + sum(values("running_seconds")))
    num_taken = max(sum(values("num_running")), max(values("num_claimed"), default=0.0))
    num_open = max(values("num_queued"), default=0.0) + num_taken
    return min(math.ceil(work_s / target_wait_s - 1e-9), math.ceil(num_open / concurrency - 1e-9))
