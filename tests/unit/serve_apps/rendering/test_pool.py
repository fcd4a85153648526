"""When a replica says that it has begun."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

from serve_apps.rendering.pool import RenderPool
from serve_apps.rendering.worker import RenderWorker
from serve_apps.tickets import STARTED, RenderTicket


class Held:
    """A worker whose renders begin at once and end when they are let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ends = {"a": threading.Event(), "b": threading.Event()}

    def run(self, ticket: RenderTicket, ref: str, on_begun: Any) -> str:
        self.begun.append(ticket.job_id)
        on_begun()
        assert self.ends[ticket.job_id].wait(60)
        return "done"


def test_a_render_that_waits_behind_one_whose_dispatcher_died_has_not_started():
    """Serve takes the slot for free, and until a thread has begun, the dispatcher keeps the claim."""
    worker = Held()
    pool = RenderPool(cast(RenderWorker, worker), concurrency=1)

    async def scenario() -> None:
        first = pool.words(RenderTicket(tenant="acme", job_id="a", fence=1), "acme.anna@1")
        assert await anext(first) == STARTED
        await first.aclose()  # the dispatcher is gone, the render goes on
        second = pool.words(RenderTicket(tenant="acme", job_id="b", fence=1), "acme.anna@1")
        started = asyncio.ensure_future(anext(second))
        done, _ = await asyncio.wait({started}, timeout=0.2)
        assert not done
        assert worker.begun == ["a"]
        worker.ends["a"].set()
        assert await started == STARTED
        assert worker.begun == ["a", "b"]
        worker.ends["b"].set()
        assert [word async for word in second] == ["done"]

    asyncio.run(scenario())


def test_a_render_that_nobody_waits_for_any_more_is_not_begun():
    worker = Held()
    pool = RenderPool(cast(RenderWorker, worker), concurrency=1)

    async def scenario() -> None:
        first = pool.words(RenderTicket(tenant="acme", job_id="a", fence=1), "acme.anna@1")
        assert await anext(first) == STARTED
        second = pool.words(RenderTicket(tenant="acme", job_id="b", fence=1), "acme.anna@1")
        waiting = asyncio.ensure_future(anext(second))
        await asyncio.wait({waiting}, timeout=0.05)
        waiting.cancel()
        await asyncio.wait({waiting})
        await second.aclose()
        worker.ends["a"].set()
        assert [word async for word in first] == ["done"]

    asyncio.run(scenario())
    pool._threads.shutdown(wait=True)
    assert worker.begun == ["a"]
