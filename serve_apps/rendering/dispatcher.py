"""Moves claimed renders from the durable queue to replicas, inside every ingress replica.

The queue stays in Redis, where it survives everything here: a dispatcher claims only as much as a replica can start
soon (``MAX_WAITING``), and keeps the claim alive until a replica has begun. Then the replica keeps it alive itself.
When a replica dies its render is queued again at once; when the dispatcher dies, claims that nobody has begun run out
with their lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import dataclass, field

from cluster.ids import ModelRef
from cluster.settings import ServeConfig
from cluster.state.jobs import Jobs
from cluster.state.lease import Lease
from cluster.state.link import new_nonce
from cluster.state.records import Claim, Terms
from cluster.telemetry.traces import spans
from m2dao.errors import LeaseLost, M2daoError
from serve_apps.problems import ApiProblem, stored_problem
from serve_apps.rendering.breaker import Breaker
from serve_apps.tickets import PUT_OFF, SERVED, STARTED, RenderTicket

log = logging.getLogger(__name__)
MAX_WAITING = 2  # claims that no replica has begun: one would leave a replica idle for a moment after each render
POLL_S = 1.0  # how late a render is seen that another process queued, or whose worker died

SendRender = Callable[[ModelRef, RenderTicket], AsyncGenerator[str, None]]
"""Sends a ticket to a replica; yields ``STARTED`` when one has begun, then how it ended."""


@dataclass(eq=False)
class _Trip:
    """One claim on its way."""

    claim: Claim
    lease: Lease  # kept from here until a replica has begun
    waiting: bool = True
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Dispatcher:
    """Claims renders and follows them.

    Args:
        jobs: the durable queue.
        send: gets a ticket to a replica that has, or will load, the model.
        config: the lease.
        worker: the name under which claims are made.
        breaker: says when renders may be claimed.
        was_stopped: tells the error of a replica that was stopped on purpose from that of one that died.
        serves: the formats that the replicas know; renders that need others are not claimed.
    """

    def __init__(
        self,
        *,
        jobs: Jobs,
        send: SendRender,
        config: ServeConfig,
        worker: str,
        breaker: Breaker,
        was_stopped: Callable[[Exception], bool] = lambda error: False,
        serves: Collection[str] = SERVED,
    ):
        self._jobs = jobs
        self._breaker = breaker
        self._was_stopped = was_stopped
        self._terms = Terms(max_running=config.max_running_renders, serves=serves)
        self._send = send
        self._config = config
        self._worker = worker
        self._trips: set[_Trip] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._loop_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to dispatch, on the running event loop."""
        self._loop_task = asyncio.create_task(self._run(), name="dispatcher")

    def wake(self) -> None:
        """Look at the queue now; to be called on the event loop when a render was created."""
        self._wake.set()

    async def stop(self) -> None:
        """Claim no more, and give back what no replica has begun. Renders under way go on."""
        self._stopping = True
        self._wake.set()
        if self._loop_task is not None:
            await (
                self._loop_task
            )  # not cancelled: a claim being made in a thread would be nobody's until its lease ran out
        trips = list(self._trips)
        for trip in trips:
            for task in trip.tasks:
                task.cancel()
        await asyncio.gather(*(task for trip in trips for task in trip.tasks), return_exceptions=True)

    async def _run(self) -> None:
        nonce = new_nonce()  # kept until there is an answer: a claim whose answer was lost is not made twice
        while not self._stopping:
            try:
                while not self._stopping and self._num_waiting() < MAX_WAITING and await self._breaker.closed():
                    claim = await asyncio.to_thread(
                        self._jobs.claim,
                        "render",
                        worker=self._worker,
                        lease_s=self._config.lease_s,
                        nonce=nonce,
                        begun=False,
                        terms=self._terms,
                    )
                    nonce = new_nonce()
                    if claim is None:
                        break
                    self._begin(claim)
            except M2daoError:
                log.exception("the render queue cannot be read")
            except Exception:
                log.exception("dispatching failed; going on")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            self._wake.clear()

    def _num_waiting(self) -> int:
        return sum(trip.waiting for trip in self._trips)

    def _begin(self, claim: Claim) -> None:
        with claim.job.worked_on():  # tasks keep the scope in which they are made
            trip = _Trip(claim, Lease(self._jobs, claim, lease_s=self._config.lease_s))
            self._trips.add(trip)
            claim.record_wait()
            trip.tasks = [asyncio.create_task(self._follow(trip)), asyncio.create_task(self._keep(trip))]

    async def _keep(self, trip: _Trip) -> None:
        await trip.lease.keep()
        try:
            trip.lease.check()
        except LeaseLost:  # cancelled, say: its request must not stay in the router's queue
            trip.tasks[0].cancel()
        self._not_waiting(trip)

    def _not_waiting(self, trip: _Trip) -> None:
        trip.waiting = False
        trip.lease.stop()
        self._wake.set()

    async def _follow(self, trip: _Trip) -> None:
        job = trip.claim.job
        ticket = RenderTicket.of(trip.claim)
        begun, word, began_s = False, "", time.time()
        try:
            async with contextlib.aclosing(self._send(ModelRef.parse(job.request["ref"]), ticket)) as words:
                async for word in words:
                    if word == STARTED:
                        begun = True
                        spans.record("dispatch", began_s, time.time(), attempt=job.attempt)
                        self._breaker.recover()
                        self._not_waiting(trip)
        except asyncio.CancelledError:
            if not begun:
                await asyncio.shield(asyncio.to_thread(self._release, trip.claim))
            raise
        except Exception as error:
            log.warning("a replica was lost", extra={"begun": begun, "error": repr(error)})
            spans.record(
                "replica lost" if begun else "dispatch", began_s, time.time(), error=error, attempt=job.attempt
            )
            if not begun:
                self._breaker.rest()  # there may be no replica at all
            if begun and not self._was_stopped(error):
                await asyncio.to_thread(self._charge, trip.claim)
            else:
                await asyncio.to_thread(self._release, trip.claim)
        finally:
            self._trips.discard(trip)
            self._not_waiting(trip)
        if word.startswith(PUT_OFF):
            self._breaker.trip(word.removeprefix(PUT_OFF).strip())

    def _charge(self, claim: Claim) -> None:
        """Queue a render again, and count the attempt: the render may be what killed the replica."""
        lost = ApiProblem("internal-error", "the worker stopped while it was rendering")
        self._give_back(claim, lambda: self._jobs.fail(claim, stored_problem(lost), retry=True))

    def _release(self, claim: Claim) -> None:
        """Queue a render again, uncounted: no replica had begun it, or it was stopped on purpose."""
        self._give_back(claim, lambda: self._jobs.release(claim))

    def _give_back(self, claim: Claim, say: Callable[[], object]) -> None:
        try:
            say()
        except LeaseLost:
            pass  # finished after all, cancelled, or taken over
        except M2daoError:
            log.exception("a render could not be given back; its lease will run out")
