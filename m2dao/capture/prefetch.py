"""Works in threads a few items ahead of its consumer, always in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_DONE = object()


def prefetch(items: Iterable[Item], depth: int = 6) -> Generator[Item, None, None]:
    """Yield `items` in order while a thread computes up to `depth` of them ahead.

    What the producer raises is raised here, after the items before it. When the consumer stops early the thread ends
    too, and the producer's own clean-up runs in that thread.
    """
    ready: queue.Queue = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(entry: tuple) -> bool:
        while not stopped.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put((item, None)):
                    break
            else:
                put((_DONE, None))
        except BaseException as error:  # handed over, whatever it is
            put((_DONE, error))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _DONE:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def in_turn(
    functions: Sequence[Callable[[Item], Result]], items: Iterable[Item], *, waiting_each: int = 3
) -> Generator[tuple[Item, Result], None, None]:
    """Yield every item with its result, in order, while N functions work on the next ones in N threads.

    Item i is given to function i modulo N, and each function is called by one thread and in order, so that functions
    may have a state of their own and the outcome does not depend on how fast anyone was.

    Args:
        waiting_each: how many items of each function are in memory.
    """
    with ExitStack() as stack:
        pools = [stack.enter_context(ThreadPoolExecutor(1, "in-turn")) for _ in functions]
        waiting: deque[tuple[Item, Future]] = deque()
        stack.callback(lambda: [job.cancel() for _, job in waiting])
        for number, item in enumerate(items):
            turn = number % len(functions)
            waiting.append((item, pools[turn].submit(functions[turn], item)))
            if len(waiting) >= waiting_each * len(functions):
                done, job = waiting.popleft()
                yield done, job.result()
        while waiting:
            done, job = waiting.popleft()
            yield done, job.result()
