"""The dispatcher over the real queue: what happens when replicas or the dispatcher itself go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cluster.faults import Backoff
from cluster.ids import ModelRef, RenderId, TenantId
from cluster.settings import ServeConfig
from cluster.state.new_jobs import NewJob
from cluster.state.records import JobRecord
from cluster.state.store import StateStore
from m2dao.errors import StorageUnavailable
from serve_apps.rendering.breaker import Breaker
from serve_apps.rendering.dispatcher import MAX_WAITING, Dispatcher
from serve_apps.tickets import SERVED, STARTED, RenderTicket
from tests.support.stack import cancel_open_jobs

WAIT_S = 60


@pytest.fixture
def state(stack):
    state = StateStore(stack)
    # The queue of renders is shared by all tests of the session; these need it for themselves, and leave nothing.
    cancel_open_jobs(state, *state.accounts.list_tenants())
    yield state
    cancel_open_jobs(state, *state.accounts.list_tenants())
    state.close()


def queue(state: StateStore, tenant: TenantId, *, max_attempts: int = 3, needs: tuple[str, ...] = ()) -> JobRecord:
    request = {"ref": f"{tenant}.anna@7", "identity": "anna", "background": {"kind": "plate"}, "audio_seconds": 1.0}
    what = {"tenant": tenant, "kind": "render", "job_id": RenderId.new(), "request": request, "needs": needs}
    return state.jobs.add(NewJob(**what, max_attempts=max_attempts))[0]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.01)


def status(state: StateStore, job: JobRecord) -> tuple[str, int]:
    now = state.jobs.get(job.tenant, job.id)
    return now.status, now.attempt


class Replicas:
    """Stands where the Serve handle is: each ticket is answered by ``play``."""

    def __init__(self, play):
        self.play = play
        self.sent: list[tuple[ModelRef, RenderTicket]] = []

    async def send(self, ref: ModelRef, ticket: RenderTicket) -> AsyncIterator[str]:
        self.sent.append((ref, ticket))
        async for word in self.play(len(self.sent)):
            yield word


QUICK = Backoff(base_s=0.01, max_s=0.1)


def dispatcher_of(
    state: StateStore,
    replicas: Replicas,
    *,
    lease_s: float = 5.0,
    backoff: Backoff = QUICK,
    check=lambda: None,
    serves=SERVED,
) -> Dispatcher:
    return Dispatcher(
        jobs=state.jobs,
        send=replicas.send,
        config=ServeConfig(lease_s=lease_s),
        worker="test",
        breaker=Breaker({"storage-unavailable": check}, backoff),
        was_stopped=lambda error: isinstance(error, InterruptedError),
        serves=serves,
    )


def test_a_queued_render_is_sent_with_its_pinned_ref(state, tenant):
    job = queue(state, tenant)

    async def play(attempt):
        yield STARTED
        yield "done"

    async def main():
        replicas = Replicas(play)
        dispatcher = dispatcher_of(state, replicas)
        dispatcher.start()
        await until(lambda: replicas.sent)
        await dispatcher.stop()
        return replicas.sent

    ((ref, ticket),) = asyncio.run(main())
    assert str(ref) == f"{tenant}.anna@7"
    assert (ticket.tenant, ticket.job_id, ticket.fence) == (str(tenant), str(job.id), 1)


def test_two_releases_on_one_queue_each_send_what_their_replicas_know(state, tenant):
    next_format = "m2dao.identity 99"
    for_next, for_both = queue(state, tenant, needs=(next_format,)), queue(state, tenant, needs=tuple(SERVED))

    async def play(attempt):
        yield STARTED
        yield "done"

    async def main():
        old, new = Replicas(play), Replicas(play)
        first = dispatcher_of(state, old)
        first.start()
        await until(lambda: old.sent)  # the second that came, for the first is not for it
        assert status(state, for_next) == ("queued", 0)
        second = dispatcher_of(state, new, serves={*SERVED, next_format})
        second.start()
        await until(lambda: new.sent)
        await asyncio.gather(first.stop(), second.stop())
        return [[ticket.job_id for _, ticket in each.sent] for each in (old, new)]

    assert asyncio.run(main()) == [[str(for_both.id)], [str(for_next.id)]]


def test_a_render_whose_replica_dies_is_sent_again_at_once_and_counts_as_tried(state, tenant):
    job = queue(state, tenant)

    async def play(attempt):
        yield STARTED
        if attempt == 1:
            raise ConnectionError("the replica was killed")

    async def main():
        replicas = Replicas(play)
        dispatcher = dispatcher_of(state, replicas, lease_s=60)  # waiting for the lease would take too long
        dispatcher.start()
        await until(lambda: len(replicas.sent) == 2)
        assert status(state, job) == ("running", 2)
        await dispatcher.stop()
        return [ticket.fence for _, ticket in replicas.sent]

    assert asyncio.run(main()) == [1, 2]


def test_a_render_that_kills_every_replica_fails_in_the_end(state, tenant):
    job = queue(state, tenant, max_attempts=2)

    async def play(attempt):
        yield STARTED
        raise ConnectionError("killed")

    async def main():
        dispatcher = dispatcher_of(state, Replicas(play), lease_s=60)
        dispatcher.start()
        await until(lambda: status(state, job) == ("failed", 2))
        await dispatcher.stop()

    asyncio.run(main())
    assert "worker stopped" in state.jobs.get(tenant, job.id).error.detail


def test_what_no_replica_has_begun_is_given_back_untried_when_the_dispatcher_stops(state, tenant):
    job = queue(state, tenant)

    async def play(attempt):
        await asyncio.Event().wait()
        yield STARTED

    async def main():
        replicas = Replicas(play)
        dispatcher = dispatcher_of(state, replicas)
        dispatcher.start()
        await until(lambda: replicas.sent)
        await dispatcher.stop()

    asyncio.run(main())
    assert status(state, job) == ("queued", 0)


def test_what_a_replica_has_begun_is_left_to_it_when_the_dispatcher_stops(state, tenant):
    job = queue(state, tenant)
    begun = asyncio.Event()

    async def play(attempt):
        yield STARTED
        begun.set()
        await asyncio.Event().wait()

    async def main():
        dispatcher = dispatcher_of(state, Replicas(play))
        dispatcher.start()
        await asyncio.wait_for(begun.wait(), WAIT_S)
        await dispatcher.stop()

    asyncio.run(main())
    assert status(state, job) == ("running", 1)


@pytest.mark.parametrize("turns", range(6))
def test_a_wake_at_the_moment_of_the_stop_does_not_keep_it_from_stopping(state, turns):
    async def main():
        dispatcher = dispatcher_of(state, Replicas(None))
        dispatcher.start()
        await asyncio.sleep(0.2)  # it has seen that the queue is empty, and waits
        dispatcher.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(WAIT_S):
            await dispatcher.stop()

    asyncio.run(main())


def test_no_more_is_claimed_than_replicas_can_begin_soon(state, tenant):
    jobs = [queue(state, tenant) for _ in range(MAX_WAITING + 3)]

    async def main():
        gate = asyncio.Event()

        async def play(attempt):
            await gate.wait()
            yield STARTED
            await asyncio.Event().wait()

        replicas = Replicas(play)
        dispatcher = dispatcher_of(state, replicas)
        dispatcher.start()
        await until(lambda: len(replicas.sent) == MAX_WAITING)
        dispatcher.wake()
        await asyncio.sleep(0.05)  # it may look at the queue, and must not take anything
        waiting = sum(status(state, job)[0] == "queued" for job in jobs)
        gate.set()
        await until(lambda: len(replicas.sent) == len(jobs))
        await dispatcher.stop()
        return waiting

    assert asyncio.run(main()) == 3


def test_a_claim_that_waits_for_a_replica_longer_than_its_lease_is_kept(state, tenant):
    job = queue(state, tenant)

    async def main():
        gate = asyncio.Event()

        async def play(attempt):
            await gate.wait()
            yield STARTED
            yield "done"

        dispatcher = dispatcher_of(state, Replicas(play), lease_s=1.0)
        dispatcher.start()
        await until(lambda: status(state, job)[0] == "running")
        first = (await asyncio.to_thread(state.jobs.get, tenant, job.id)).updated_s
        await until(lambda: state.jobs.get(tenant, job.id).updated_s > first + 1.0)  # renewed beyond its first end
        seen = await asyncio.to_thread(status, state, job)
        gate.set()
        await dispatcher.stop()
        return seen

    assert asyncio.run(main()) == ("running", 1)


def test_a_state_store_that_fails_once_does_not_end_dispatching(state, tenant, monkeypatch):
    from m2dao.errors import StateUnavailable

    queue(state, tenant)
    claim, failed = state.jobs.claim, []

    def failing_once(*args, **options):
        if not failed:
            failed.append(True)
            raise StateUnavailable("redis")
        return claim(*args, **options)

    async def play(attempt):
        yield STARTED

    async def main():
        replicas = Replicas(play)
        monkeypatch.setattr(state.jobs, "claim", failing_once)
        dispatcher = dispatcher_of(state, replicas)
        dispatcher.start()
        await until(lambda: failed)
        dispatcher.wake()
        await until(lambda: replicas.sent)
        await dispatcher.stop()

    asyncio.run(main())


def test_a_render_whose_replica_was_stopped_on_purpose_has_used_no_attempt(state, tenant):
    job = queue(state, tenant, max_attempts=1)

    async def play(attempt):
        yield STARTED
        if attempt == 1:
            raise InterruptedError("drained")

    async def main():
        replicas = Replicas(play)
        dispatcher = dispatcher_of(state, replicas)
        dispatcher.start()
        await until(lambda: len(replicas.sent) == 2)
        assert status(state, job) == ("running", 1)
        await dispatcher.stop()

    asyncio.run(main())


def test_a_render_that_is_cancelled_while_it_waits_leaves_the_routers_queue(state, tenant):
    job = queue(state, tenant)
    left = []

    async def play(attempt):
        try:
            await asyncio.Event().wait()
            yield STARTED
        finally:
            left.append(attempt)

    async def main():
        replicas = Replicas(play)
        dispatcher = dispatcher_of(state, replicas, lease_s=1.0)
        dispatcher.start()
        await until(lambda: replicas.sent)
        await asyncio.to_thread(state.jobs.cancel, tenant, job.id)
        await until(lambda: left)
        await dispatcher.stop()

    asyncio.run(main())
    assert status(state, job)[0] == "cancelled"


def test_while_there_are_no_replicas_at_all_the_queue_is_left_alone(state, tenant):
    job = queue(state, tenant)

    async def play(attempt):
        raise ConnectionError("there is no deployment")
        yield STARTED

    async def main():
        replicas = Replicas(play)
        dispatcher = dispatcher_of(state, replicas, backoff=Backoff(base_s=1000, max_s=1000))
        dispatcher.start()
        await until(lambda: replicas.sent and status(state, job) == ("queued", 0))
        for _ in range(5):
            dispatcher.wake()
            await asyncio.sleep(0.02)  # it may look, and must not take anything
        await dispatcher.stop()
        return len(replicas.sent)

    assert asyncio.run(main()) == 1


def test_no_render_is_claimed_while_a_service_that_each_needs_is_away(state, tenant):
    jobs = [queue(state, tenant) for _ in range(2)]
    away = [True]
    asked = []

    def check():
        asked.append(len(replicas.sent))
        if away:
            raise StorageUnavailable("s3")

    async def play(attempt):
        yield STARTED
        yield "put off storage-unavailable" if away else "done"

    replicas = Replicas(play)

    async def main():
        dispatcher = dispatcher_of(state, replicas, check=check)
        dispatcher.start()
        await until(lambda: len(asked) > 3)
        seen = asked[-3:]
        away.clear()
        await asyncio.to_thread(state.jobs.create, tenant, "render", jobs[0].request)
        count = len(replicas.sent)
        await until(lambda: len(replicas.sent) > count)
        await dispatcher.stop()
        return seen

    seen = asyncio.run(main())
    assert len(set(seen)) == 1  # nothing was sent between one check and the next


def test_a_dispatcher_that_dies_with_a_claim_costs_the_render_no_attempt(state, tenant):
    job = queue(state, tenant, max_attempts=1)
    state.jobs.claim("render", worker="dies", lease_s=0.001, tenant=tenant, begun=False)
    while status(state, job)[0] == "running":
        state.jobs.requeue_expired("render")
    assert status(state, job) == ("queued", 0)
