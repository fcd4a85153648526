"""Tenants take turns by the seconds they are served, however long their jobs are."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from cluster.faults import Backoff
from cluster.ids import RenderId, TenantId
from cluster.state import keys, scripts
from cluster.state.jobs import Jobs
from cluster.state.problems import Problem
from cluster.state.records import Terms
from cluster.state.store import StateStore
from tests.support.stack import COUNTED, reaching

LONG, SHORT, OTHER = TenantId("long"), TenantId("short"), TenantId("other")
AWAY = Problem(code="x")


@pytest.fixture
def alone(stack) -> Iterator[StateStore]:
    """A database of its own: the turns of tenants are nobody else's."""
    parts = urlsplit(stack.require("redis.url"))
    store = StateStore(reaching(stack, redis_url=urlunsplit(parts._replace(path="/9"))))
    store._link.call("FLUSHDB")
    for tenant in (LONG, SHORT, OTHER):
        store.accounts.create_tenant(tenant)
    yield store
    store._link.call("FLUSHDB")
    store.close()


def create(state: StateStore, tenant: TenantId, cost: float, num: int = 1) -> list[RenderId]:
    return [state.jobs.create(tenant, "render", {}, cost=cost)[0].id for _ in range(num)]


def take(state: StateStore, **more: Any):
    return state.jobs.claim("render", worker="w", lease_s=3600, **more)


def served(
    state: StateStore, costs: dict[TenantId, float], *, num_workers: int, until_s: float
) -> dict[TenantId, float]:
    """The seconds that each tenant was served, by workers that do a second of each job in a second."""
    totals, under_way, order = dict.fromkeys(costs, 0.0), [], itertools.count()
    now = 0.0
    while now < until_s:
        while len(under_way) < num_workers:
            claim = take(state)
            heapq.heappush(under_way, (now + costs[claim.job.tenant], next(order), claim))
        now, _, claim = heapq.heappop(under_way)
        state.jobs.finish(claim, {})
        totals[claim.job.tenant] += costs[claim.job.tenant]
    return totals


@pytest.mark.parametrize("num_workers", [1, 3])
def test_a_tenant_of_long_jobs_is_served_as_many_seconds_as_one_of_short_jobs(alone, num_workers):
    costs = {LONG: 600.0, SHORT: 6.0}
    create(alone, LONG, costs[LONG], 20)
    create(alone, SHORT, costs[SHORT], 900)
    seconds = served(alone, costs, num_workers=num_workers, until_s=5400 / num_workers)
    assert abs(seconds[LONG] - seconds[SHORT]) <= (1 + num_workers) * costs[LONG]
    assert min(seconds.values()) >= 1800


def test_who_comes_back_is_next_and_has_saved_up_no_turns(alone):
    create(alone, LONG, 10, 9)
    for _ in range(5):
        alone.jobs.finish(take(alone), {})
    create(alone, OTHER, 10, 9)
    assert [take(alone).job.tenant for _ in range(6)].count(OTHER) == 3


def test_once_nothing_is_open_what_was_served_is_history(alone):
    create(alone, LONG, 600)
    alone.jobs.finish(take(alone), {})
    create(alone, SHORT, 6, 9)
    create(alone, LONG, 6, 9)
    assert {take(alone).job.tenant, take(alone).job.tenant} == {SHORT, LONG}


ENDS = {
    "released": lambda state, claim: state.jobs.release(claim),
    "put off": lambda state, claim: state.jobs.put_off(claim, AWAY, most=9),
    "dodged": lambda state, claim: state.jobs.dodge(claim),
    "refused": lambda state, claim: state.jobs.fail(claim, AWAY),
    "cancelled": lambda state, claim: state.jobs.cancel(claim.job.tenant, claim.job.id),
    "lost before it began": lambda state, claim: run_out(state, claim),
}


def run_out(state: StateStore, claim: Any) -> None:
    state._link.call("ZADD", f"{claim.job.tenant}:leases:render", 1, str(claim.job.id))
    state.jobs.requeue_expired("render")


@pytest.mark.parametrize("end", ENDS)
def test_what_was_not_served_is_not_charged(alone, end):
    create(alone, LONG, 600, 3)
    create(alone, SHORT, 6, 9)
    claim = take(alone)
    assert claim.job.tenant == LONG
    ENDS[end](alone, claim)
    taken = [take(alone).job.tenant for _ in range(2)]
    assert LONG in taken


def test_what_was_rendered_before_its_worker_died_is_charged(alone):
    create(alone, LONG, 600, 3)
    create(alone, SHORT, 6, 100)
    claim = take(alone)
    alone.jobs.heartbeat(claim, lease_s=60, progress=0.5)
    run_out(alone, claim)
    taken = [take(alone).job.tenant for _ in range(60)]
    assert taken.index(LONG) == 50  # 300 s of the other come first


def test_a_tenant_at_its_limit_is_passed_over_and_keeps_its_turn(alone):
    create(alone, LONG, 5, 3)
    create(alone, SHORT, 6, 9)
    first = take(alone, terms=Terms(max_running=1))
    assert first.job.tenant == LONG
    assert take(alone, terms=Terms(max_running=1)).job.tenant == SHORT
    assert take(alone, terms=Terms(max_running=1)) is None
    alone.jobs.finish(first, {})
    assert take(alone, terms=Terms(max_running=1)).job.tenant == LONG


def test_a_claim_takes_the_same_steps_however_many_tenants_wait(alone, monkeypatch):
    monkeypatch.setattr(scripts, "CLAIM_JOB", COUNTED + scripts.CLAIM_JOB)

    def steps_of_a_claim(num_tenants: int) -> int:
        for number in range(num_tenants):
            tenant = TenantId(f"t{num_tenants}-{number}")
            alone.accounts.create_tenant(tenant)
            create(alone, tenant, 6, 2)
            assert take(alone, tenant=tenant)
        alone._link.call("SET", "steps", 0)
        assert take(alone)
        return int(alone._link.call("GET", "steps"))

    assert steps_of_a_claim(3) == steps_of_a_claim(300)


def test_a_job_that_is_put_off_is_open(alone):
    create(alone, LONG, 6, 3)
    jobs = Jobs(alone._link, backoff=Backoff(base_s=3600, max_s=3600))
    jobs.put_off(take(alone), AWAY, most=9)
    take(alone)
    assert len(alone.jobs.open("render")) == 3


def test_the_totals_are_those_of_all_tenants_wherever_jobs_go(alone):
    jobs, rng, claims = Jobs(alone._link, backoff=Backoff(base_s=0.001, max_s=0.001)), random.Random(3), []
    for _ in range(150):
        if rng.random() < 0.5:
            create(alone, rng.choice([LONG, SHORT, OTHER]), rng.choice([0.5, 2.125, 600]))
        if rng.random() < 0.6 and (claim := take(alone)):
            claims.append(claim)
        if claims and rng.random() < 0.6:
            claim = claims.pop(rng.randrange(len(claims)))
            rng.choice(
                [
                    lambda claim: jobs.finish(claim, {}),
                    lambda claim: jobs.put_off(claim, AWAY, most=99),
                    lambda claim: jobs.cancel(claim.job.tenant, claim.job.id),
                ]
            )(claim)
    before_last = alone.jobs.backlog("render")
    parts = [alone.jobs.backlog("render", tenant=tenant) for tenant in (LONG, SHORT, OTHER)]
    for name in ("num_queued", "num_running", "num_delayed", "queued_cost", "running_cost"):
        assert getattr(before_last, name) == sum(getattr(part, name) for part in parts), name
    alone.accounts.delete_tenant(LONG)
    left = alone.jobs.backlog("render")
    assert (left.num_queued, left.queued_cost) == tuple(
        sum(getattr(part, name) for part in parts[1:]) for name in ("num_queued", "queued_cost")
    )


def test_totals_that_an_older_release_did_not_keep_are_counted_anew(alone):
    create(alone, LONG, 600, 3)
    take(alone)
    for name in ("queue", "num_queue", "leases", "num_leases"):
        alone._link.call("HINCRBY", "totals:render", name, 77)
    alone.jobs.requeue_expired("render")
    backlog = alone.jobs.backlog("render")
    assert (backlog.num_queued, backlog.num_running) == (2, 1)
    assert (backlog.queued_cost, backlog.running_cost) == (1200, 600)


def test_the_turns_of_an_older_version_go_on(alone):
    """It kept every tenant with an open job by the time of its last turn, and no totals."""
    create(alone, LONG, 600, 3)
    create(alone, SHORT, 6, 9)
    running = take(alone)
    alone._link.call("ZADD", f"{LONG}:leases:render", 1, str(running.job.id))
    for name in ("due", "totals"):
        alone._link.call("DEL", keys._PATTERNS[name] % "render")
    for tenant in (LONG, SHORT):
        alone._link.call("ZADD", "turn:render", "1764000000000000", str(tenant))
        alone._link.call("HDEL", f"{tenant}:backlog:render", "served")
    create(alone, OTHER, 6, 9)
    taken = {claim.job.tenant: claim.job.id for claim in (take(alone) for _ in range(3))}
    assert set(taken) == {LONG, SHORT, OTHER}
    assert taken[LONG] == running.job.id  # its lease had run out
    backlog = alone.jobs.backlog("render")
    assert (backlog.num_queued, backlog.num_running) == (18, 3)
    assert (backlog.queued_cost, backlog.running_cost) == (2 * 600 + 16 * 6, 612)
