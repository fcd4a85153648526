"""The threads of a replica that render."""

from __future__ import annotations

import asyncio
import os
import threading

from serve_apps.rendering.pool import BEHIND, RenderPool
from serve_apps.tickets import RenderTicket

LAST = 19  # there is no more niceness
TICKET = RenderTicket(tenant="acme", job_id="r-1", fence=1)


def niceness(thread: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread)


class Told:
    """A worker whose word is how nice its thread is, and a thread that it starts."""

    def run(self, ticket, ref, on_begun):
        found = [niceness(threading.get_native_id())]
        started = threading.Thread(target=lambda: found.append(niceness(threading.get_native_id())))
        started.start()
        started.join()
        return str(found)

    def give_up(self):
        pass


def test_renders_leave_the_cores_to_who_answers_requests():
    async def word(pool: RenderPool) -> str:
        return [word async for word in pool.words(TICKET, "acme.anna@1")][-1]

    before = niceness(threading.get_native_id())
    pool = RenderPool(Told(), concurrency=1)
    assert asyncio.run(word(pool)) == str(2 * [min(LAST, before + BEHIND)])
    assert niceness(threading.get_native_id()) == before
    pool.stop(1.0)
