"""Runs renders in threads that nobody cancels, and tells whoever sent them what becomes of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from serve_apps.rendering.worker import RenderWorker
from serve_apps.tickets import STARTED, RenderTicket

BEHIND = 10  # steps of niceness: where renders take every core, requests are still answered
GIVE_UP_AT = 0.8  # of the time there is to stop: what is not done then is given back


class RenderPool:
    """The renders of one replica. A dispatcher that goes away does not take its renders along.

    Args:
        worker: does them.
        concurrency: renders at the same time.
    """

    def __init__(self, worker: RenderWorker, *, concurrency: int):
        self._worker = worker
        # Of a thread alone, on Linux, and of those that it starts: encoders, say.
        self._threads = ThreadPoolExecutor(
            concurrency, thread_name_prefix="render", initializer=os.nice, initargs=(BEHIND,)
        )
        self._open: set[Future[str]] = set()

    async def words(self, ticket: RenderTicket, ref: str) -> AsyncGenerator[str, None]:
        """Do one claimed render: ``STARTED`` once its claim is kept alive here, and at the end how it ended."""
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def on_begun() -> None:
            loop.call_soon_threadsafe(begun.set)

        # Said from inside the thread: until there is a free one, the claim is the dispatcher's to keep alive.
        work = self._threads.submit(self._worker.run, ticket, ref, on_begun)
        self._open.add(work)
        work.add_done_callback(self._open.discard)
        outcome = asyncio.wrap_future(work)
        waiting = asyncio.ensure_future(begun.wait())
        ends: set[asyncio.Future[Any]] = {outcome, waiting}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if begun.is_set():
                yield STARTED
            yield await asyncio.shield(outcome)
        finally:
            waiting.cancel()
            if not begun.is_set():
                work.cancel()  # its claim goes back; a thread that begins it all the same is refused

    def stop(self, within_s: float) -> None:
        """Finish what is under way; what would not be done within the time is given back uncounted."""
        self._threads.shutdown(wait=False)
        wait(list(self._open), timeout=within_s * GIVE_UP_AT)
        self._worker.give_up()
