"""Work beside a fit that may wait for services: copies of its steps, the curve of its metrics."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from cluster.telemetry.scope import carried

logger = logging.getLogger(__name__)

_END_S = 10.0  # how long the end of a fit waits for what is still to be sent


class Background:
    """A thread that does what it is given, in order, and holds up nobody.

    What does not fit into its queue is not done: a service that hangs costs what should have gone there, not the time
    of the fit.
    """

    def __init__(self, name: str, *, size: int = 32):
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(size)
        self._over = threading.Event()
        # A daemon: a call that hangs when the fit has ended must not keep the worker from its next one.
        self._thread = threading.Thread(target=carried(self._run), name=name, daemon=True)

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """End, once what waits is done, or after some seconds."""
        try:
            self._queue.put(None, timeout=_END_S)
        except queue.Full:
            logger.warning("%s hangs; what it should send is given up", self._thread.name)
        self._thread.join(_END_S)
        self._over.set()

    def put(self, call: Callable[[], None]) -> bool:
        """Do something soon; returns whether there was room for it."""
        try:
            self._queue.put_nowait(call)
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        while (call := self._queue.get()) is not None and not self._over.is_set():
            try:
                call()
            except Exception:
                logger.exception("%s: what it was given failed", self._thread.name)
