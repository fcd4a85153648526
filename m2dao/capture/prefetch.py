"""Running a producer in a thread of its own, a few items ahead of its consumer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
_DONE = object()


def prefetch(items: Iterable[Item], depth: int = 6) -> Iterator[Item]:
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


class ReadAhead(Generic[Item]):
    """A function of an index that is computed ahead in a thread while it is asked for in rising order.

    Args:
        function: may be called from another thread.
        length: indices are 0 <= index < length.
        depth: how many items are kept ready.
    """

    def __init__(self, function: Callable[[int], Item], length: int, depth: int = 4):
        self._function, self._length, self._depth = function, length, depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._ready: dict[int, Future] = {}
        self._last = -2
        self.num_asked = 0

    def __enter__(self) -> ReadAhead[Item]:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __call__(self, index: int) -> Item:
        """The item at `index`; what follows it is fetched ahead if its predecessor was asked for last."""
        self.num_asked += 1
        if index == self._last + 1:
            for ahead in range(index, min(index + self._depth, self._length)):
                if ahead not in self._ready:
                    self._ready[ahead] = self._pool.submit(self._function, ahead)
        else:
            self._ready.clear()
        self._last = index
        job = self._ready.pop(index, None)
        return self._function(index) if job is None else job.result()
