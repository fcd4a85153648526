"""Who is let in: rates, uploads at once, and places in the queue."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from cluster.state.door import Door, Terms, Verdict, place_of
from cluster.state.link import AsyncRedisLink
from cluster.state.new_jobs import Once
from cluster.state.people.principals import Needed, Scope
from cluster.state.store import StateStore

CLIENT = Needed(scope=Scope.CLIENT)
TERMS = Terms(rate=1000, burst=1000, uploads=3, open_renders=3, place_s=60)


@pytest.fixture
def state(stack):
    state = StateStore(stack)
    yield state
    state.close()


@pytest.fixture
def key(state, tenant) -> str:
    return state.accounts.create_api_key(tenant)


@pytest.fixture
def at_door(stack, state):
    """Do something at a door of some terms, on a loop of its own."""

    def run(do, **changes):
        async def act():
            link = AsyncRedisLink(stack.require("redis.url"))
            try:
                return await do(Door(link, state.accounts, dataclasses.replace(TERMS, **changes)))
            finally:
                await link.close()

        return asyncio.run(act())

    return run


def test_a_key_lets_in_its_tenant(at_door, key, tenant):
    answer = at_door(lambda door: door.enter(key, CLIENT))
    assert (answer.verdict, answer.principal.tenant) == (Verdict.IN, tenant)


@pytest.mark.parametrize("key", ["", "m2dao_", "m2dao_" + "A" * 43, "*"])
def test_any_other_key_is_unknown(at_door, key):
    answer = at_door(lambda door: door.enter(key, CLIENT))
    assert (answer.verdict, answer.principal) == (Verdict.UNKNOWN, None)


def test_a_rate_lets_through_its_burst_then_says_how_long_to_wait(at_door, key):
    async def ask(door):
        return [await door.enter(key, CLIENT) for _ in range(4)]

    answers = at_door(ask, rate=0.001, burst=3)
    assert [answer.verdict for answer in answers] == [Verdict.IN] * 3 + [Verdict.TOO_OFTEN]
    assert 900 < answers[3].wait_s <= 1000


def test_a_rate_refills_with_time(at_door, key):
    async def ask(door):
        async with asyncio.timeout(20):
            while (await door.enter(key, CLIENT)).verdict is not Verdict.TOO_OFTEN:
                pass
            while (await door.enter(key, CLIENT)).verdict is Verdict.TOO_OFTEN:
                pass

    at_door(ask, rate=50, burst=1)


def test_what_a_request_turned_out_to_need_is_a_debt_of_later_ones(at_door, key, tenant):
    async def ask(door):
        await door.enter(key, CLIENT)
        await door.charge(tenant, 15)
        return await door.enter(key, CLIENT)

    answer = at_door(ask, rate=0.1, burst=10)
    assert answer.verdict is Verdict.TOO_OFTEN
    assert 60 < answer.wait_s <= 70


def test_a_tenant_has_so_many_uploads_at_once_and_gets_each_back(at_door, key, tenant):
    async def ask(door):
        first = [(await door.enter(key, CLIENT, place=f"u{n}")).verdict for n in range(4)]
        await door.leave(tenant, place_of("u0", None))
        await door.leave(tenant, place_of("u0", None))  # again changes nothing
        return [
            *first,
            (await door.enter(key, CLIENT, place="u4")).verdict,
            (await door.enter(key, CLIENT, place="u5")).verdict,
        ]

    expected = [Verdict.IN] * 3 + [Verdict.BUSY, Verdict.IN, Verdict.BUSY]
    assert at_door(ask, open_renders=100) == expected


def test_uploads_count_as_open_renders_from_the_moment_they_are_let_in(at_door, state, key, tenant):
    async def ask(door):
        state.jobs.create(tenant, "render", {})
        state.jobs.create(tenant, "render", {})
        state.jobs.claim("render", worker="w", lease_s=60, tenant=tenant)
        return [(await door.enter(key, CLIENT, place=f"u{n}")).verdict for n in range(2)]

    assert at_door(ask) == [Verdict.IN, Verdict.FULL]


def test_a_place_that_its_holder_never_gives_back_is_free_by_itself(at_door, key):
    async def ask(door):
        assert (await door.enter(key, CLIENT, place="lost")).verdict is Verdict.IN
        async with asyncio.timeout(20):
            while (await door.enter(key, CLIENT, place="next")).verdict is not Verdict.IN:
                pass

    at_door(ask, open_renders=1, place_s=0.2)


def test_a_place_whose_holder_lives_is_not_free_by_itself(at_door, state, key, tenant):
    def end_of(slots: str, name: str) -> float:
        return float(state._link.call("ZSCORE", f"{tenant}:slots:{slots}", name) or 0)

    def num_scripts() -> int:
        return state._link.call("INFO", "commandstats")["cmdstat_evalsha"]["calls"]

    async def ask(door):
        await door.enter(key, CLIENT, place="u", idempotency_key="k")
        [shared] = state._link.call("ZRANGE", f"{tenant}:slots:places", 0, -1)
        names = {"uploads": "u", "places": shared}
        first = {slots: end_of(slots, name) for slots, name in names.items()}
        keeping = asyncio.create_task(door.keep(tenant, place_of("u", "k")))
        async with asyncio.timeout(60):
            while any(end_of(slots, name) <= first[slots] for slots, name in names.items()):
                await asyncio.sleep(0)
        await door.leave(tenant, place_of("u", "k"))
        left = num_scripts()
        async with asyncio.timeout(60):  # a renewal that comes too late gives it no place again
            while num_scripts() < left + 2:
                await asyncio.sleep(0)
        keeping.cancel()
        return [end_of(slots, name) for slots, name in names.items()]

    assert at_door(ask, place_s=60, renew_s=0) == [0, 0]


def test_requests_under_one_key_share_a_place_and_a_repetition_needs_none(at_door, state, key, tenant):
    async def ask(door):
        shared = [(await door.enter(key, CLIENT, place=f"u{n}", idempotency_key="k")).verdict for n in range(2)]
        other = (await door.enter(key, CLIENT, place="u2")).verdict
        state.jobs.create(tenant, "render", {}, once=Once(key="k"))
        for n in range(2):
            await door.leave(tenant, place_of(f"u{n}", "k"))
        repeated = (await door.enter(key, CLIENT, place="u3", idempotency_key="k")).verdict
        return [*shared, other, repeated, (await door.enter(key, CLIENT, place="u4")).verdict]

    assert at_door(ask, open_renders=1) == [Verdict.IN, Verdict.IN, Verdict.FULL, Verdict.IN, Verdict.FULL]
