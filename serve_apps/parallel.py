"""Things done at the same time, of which none may outlive the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, wait

from cluster.telemetry.scope import carried


def do_all(threads: Executor, calls: Iterable[Callable[[], object]]) -> None:
    """Call everything at the same time; return or raise the first error once all have ended.

    An error waits for the others, because what they make is removed after it.
    """
    begun = [threads.submit(carried(call)) for call in calls]
    wait(begun)
    for each in begun:
        each.result()
