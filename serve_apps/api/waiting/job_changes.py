"""Follows jobs for those who listen or wait, all by one connection to Redis; none holds up another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable

from cluster.ids import JobId, TenantId
from cluster.state import keys
from cluster.state.link import AsyncRedisLink
from cluster.state.records import JobRecord, record_of
from m2dao.errors import M2daoError
from serve_apps.problems import ApiProblem

log = logging.getLogger(__name__)
_LOOK_S = 2.0  # messages are hints: so often we look ourselves
_LISTEN_S = 0.2  # how late a new follower is heard for
_AGAIN_S = 5


class JobChanges:
    """Wakes those who follow jobs.

    A follower that reads slowly misses what lies between, never the last state, and nothing is kept for it.

    Args:
        link: to Redis.
        most: followers at the same time.
        per_tenant: those of one tenant.
    """

    def __init__(self, link: AsyncRedisLink, *, most: int, per_tenant: int):
        self._link, self._most, self._per_tenant = link, most, per_tenant
        self._followers: dict[str, set[asyncio.Event]] = defaultdict(set)  # channel -> who waits
        self._counts: Counter[TenantId] = Counter()
        self._listening: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def follow(
        self, tenant: TenantId, job_id: JobId
    ) -> AsyncIterator[Callable[[float], AsyncIterator[JobRecord]]]:
        """Follow a job; yields a function that tells its states for some seconds, or until it has ended.

        Raises:
            ApiProblem: 429, there are too many followers.
        """
        if self._counts[tenant] >= self._per_tenant or self._counts.total() >= self._most:
            detail = f"at most {self._per_tenant} requests that wait for changes at the same time"
            raise ApiProblem("too-many-requests", detail, {"Retry-After": str(_AGAIN_S)})
        channel, changed = keys.job_channel(tenant, job_id), asyncio.Event()
        self._counts[tenant] += 1
        self._followers[channel].add(changed)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())

        async def states(for_s: float) -> AsyncIterator[JobRecord]:
            async for job in self._states(tenant, job_id, changed, for_s):
                yield job

        try:
            yield states
        finally:
            self._counts[tenant] -= 1
            self._counts += Counter()  # without those that have none
            self._followers[channel].discard(changed)
            if not self._followers[channel]:
                del self._followers[channel]

    async def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening

    async def _states(
        self, tenant: TenantId, job_id: JobId, changed: asyncio.Event, for_s: float
    ) -> AsyncIterator[JobRecord]:
        loop, last = asyncio.get_running_loop(), None
        ends = loop.time() + for_s
        while True:
            changed.clear()
            fields = await self._link.hash(keys.job(tenant, job_id))
            if "id" not in fields:
                return
            job = record_of(fields)
            left_s = ends - loop.time()
            if job != last:
                last = job
                yield job
            if job.finished or left_s <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK_S, left_s)):
                    await changed.wait()

    async def _listen(self) -> None:
        """Hear for all followers, until there are none."""
        while self._followers:
            try:
                async with self._link.listen() as listener:
                    while self._followers:
                        await listener.hear(set(self._followers))
                        channel = await listener.get(_LISTEN_S)
                        for changed in self._followers.get(channel, ()) if channel is not None else ():
                            changed.set()
            except M2daoError as error:  # followers look themselves meanwhile
                log.warning("not listening for changes of jobs", extra={"error": str(error)})
                await asyncio.sleep(1.0)
