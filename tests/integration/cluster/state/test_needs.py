"""Two releases on one Redis: each claims what it can do, and leaves the rest to the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from cluster.ids import RenderId, TenantId
from cluster.state import scripts
from cluster.state.new_jobs import NewJob
from cluster.state.records import Terms
from cluster.state.store import StateStore
from serve_apps.rendering.load import queue_figures
from serve_apps.tickets import SERVED
from tests.support.stack import COUNTED, reaching

ANNA, BEN = TenantId("anna"), TenantId("ben")
OLD, NEW = ("identity 5", "job 2"), ("identity 5", "identity 6", "job 2", "job 3")


@pytest.fixture
def alone(stack) -> Iterator[StateStore]:
    """A database of its own: what waits there is nobody else's."""
    parts = urlsplit(stack.require("redis.url"))
    store = StateStore(reaching(stack, redis_url=urlunsplit(parts._replace(path="/10"))))
    store._link.call("FLUSHDB")
    for tenant in (ANNA, BEN):
        store.accounts.create_tenant(tenant)
    yield store
    store._link.call("FLUSHDB")
    store.close()


def queue(state: StateStore, tenant: TenantId, *needs: str, cost: float = 1.0) -> RenderId:
    new = NewJob(tenant=tenant, kind="render", job_id=RenderId.new(), request={}, needs=needs, cost=cost)
    return state.jobs.add(new)[0].id


def take(state: StateStore, serves: tuple[str, ...], **more) -> RenderId | None:
    claim = state.jobs.claim("render", worker="w", lease_s=60, terms=Terms(serves=serves), **more)
    return None if claim is None else claim.job.id


def test_what_a_release_cannot_do_waits_for_the_other_untried(alone):
    for_new = queue(alone, ANNA, "identity 6", "job 3")
    for_both = queue(alone, ANNA, "identity 5", "job 2")
    assert take(alone, OLD) == for_both
    assert take(alone, OLD) is None
    waits = alone.jobs.get(ANNA, for_new)
    assert (waits.status, waits.attempt, waits.num_put_off, waits.needs) == ("queued", 0, 0, ("identity 6", "job 3"))
    assert take(alone, NEW) == for_new


def test_everything_that_is_needed_must_be_known(alone):
    queue(alone, ANNA, "identity 5", "job 3")
    queue(alone, ANNA, "identity", "job 2")  # the beginning of a known name
    assert take(alone, OLD) is None


def test_a_tenant_whose_renders_wait_for_another_release_holds_up_nobody(alone):
    for _ in range(30):
        queue(alone, ANNA, "identity 6")
    own = [queue(alone, BEN, "identity 5") for _ in range(2)]
    assert [take(alone, OLD) for _ in range(3)] == [*own, None]
    assert take(alone, NEW) is not None  # it has kept its place


def test_renders_of_a_release_that_said_nothing_are_done_by_all(alone):
    old = queue(alone, ANNA)
    assert take(alone, OLD) == old


def test_who_says_nothing_takes_all(alone):
    job = queue(alone, ANNA, "identity 6")
    assert take(alone, ()) == job


def test_a_job_that_is_named_is_not_taken_by_who_cannot_do_it(alone):
    job = queue(alone, ANNA, "identity 6")
    assert take(alone, OLD, tenant=ANNA, job_id=job) is None
    assert take(alone, NEW, tenant=ANNA, job_id=job) == job


def counted(state: StateStore, serves: tuple[str, ...], **more) -> tuple[int, int, float, float]:
    found = state.jobs.backlog("render", serves=serves, **more)
    return found.num_queued, found.num_running, found.queued_cost, found.running_cost


def test_a_backlog_of_what_a_release_can_do_leaves_out_the_rest_wherever_it_is(alone):
    for tenant, need, cost in ((ANNA, "identity 6", 100), (ANNA, "identity 5", 3), (BEN, "identity 6", 50)):
        queue(alone, tenant, need, cost=cost)
    queue(alone, BEN, cost=4)  # of a release that said nothing
    assert counted(alone, OLD) == (2, 0, 7, 0)
    assert counted(alone, OLD, tenant=ANNA) == (1, 0, 3, 0)
    assert counted(alone, NEW) == counted(alone, ()) == (4, 0, 157, 0)
    taken = alone.jobs.claim("render", worker="w", lease_s=60, tenant=ANNA, terms=Terms(serves=("identity 6",)))
    assert (counted(alone, OLD), counted(alone, NEW)) == ((2, 0, 7, 0), (3, 1, 57, 100))
    alone.jobs.finish(taken, {})
    alone.accounts.delete_tenant(BEN)
    assert counted(alone, OLD) == counted(alone, NEW) == (1, 0, 3, 0)


def test_a_backlog_by_needs_that_another_release_did_not_keep_is_counted_anew(alone):
    for need, cost in (("identity 6", 100), ("identity 5", 3), ("identity 6", 50)):
        queue(alone, ANNA, need, cost=cost)
    for name in (f"{ANNA}:backlog:render", "totals:render"):
        kept = [field for field in alone._link.hash(name) if "\n" in field]
        assert kept
        alone._link.call("HDEL", name, *kept)
    alone.jobs.requeue_expired("render")
    assert counted(alone, OLD) == counted(alone, OLD, tenant=ANNA) == (1, 0, 3, 0)


def test_a_replica_reports_no_render_that_only_another_release_can_do(alone):
    queue(alone, ANNA, "identity of another release", cost=1000)
    queue(alone, BEN, sorted(SERVED)[0], cost=7)
    figures = queue_figures(alone.jobs)
    assert (figures["num_queued"], figures["queued_seconds"]) == (1, 7)


def steps_of_claims(state: StateStore, serves: tuple[str, ...]) -> tuple[RenderId | None, int]:
    """What a claim took, and how many commands the store has run for it."""
    take(state, serves, tenant=BEN)  # after a silence of seconds, a claim looks at all leases
    state._link.call("SET", "steps", 0)
    taken = take(state, serves)
    return taken, int(state._link.call("GET", "steps"))


@pytest.mark.parametrize("has_own", [False, True], ids=["nothing for it", "one job behind them"])
def test_a_claim_takes_the_same_steps_however_many_jobs_wait_for_another_release(alone, monkeypatch, has_own):
    monkeypatch.setattr(scripts, "CLAIM_JOB", COUNTED + scripts.CLAIM_JOB)
    seen = []
    for num in (5, 100):
        for _ in range(num):
            queue(alone, ANNA, "identity 6")
        own = queue(alone, ANNA, "identity 5") if has_own else None
        taken, steps = steps_of_claims(alone, OLD)
        assert taken == own
        seen.append(steps)
    assert seen[0] == seen[1]


def test_a_step_looks_at_a_bounded_number_of_tenants_and_a_claim_finds_what_is_behind_them(alone, monkeypatch):
    monkeypatch.setattr(scripts, "CLAIM_JOB", COUNTED + scripts.CLAIM_JOB)
    for number in range(501):
        tenant = TenantId(f"t-{number}")
        alone.accounts.create_tenant(tenant)
        queue(alone, tenant, "identity 6")
    turns = alone._link.call("ZCARD", "turn:render")
    assert steps_of_claims(alone, OLD)[1] < turns  # nobody is looked at where nobody has anything
    own = queue(alone, ANNA, "identity 5")
    alone._link.call("ZADD", "turn:render", "XX", 1e6, str(ANNA))  # whose turn comes last
    assert alone._link.run(scripts.CLAIM_JOB, ["n"], _first_step()) == ["more", 500]
    assert take(alone, OLD) == own


def _first_step() -> list:
    return ["render", "w", 60_000, "", "", 60, 0, -1, "".join(f"\n{name}\n" for name in OLD), 0]


def test_what_another_release_queued_without_its_needs_at_hand_is_found(alone):
    for_new, for_both = queue(alone, ANNA, "identity 6"), queue(alone, ANNA, "identity 5")
    for name in alone._link.call("KEYS", f"{ANNA}:line:*"):
        alone._link.call("DEL", name)
    for name in (f"{ANNA}:backlog:render", "totals:render"):
        alone._link.call("HDEL", name, *(field for field in alone._link.hash(name) if "\n" in field))
    assert [take(alone, OLD) for _ in range(2)] == [for_both, None]
    assert take(alone, NEW) == for_new


def test_an_upgrade_with_both_releases_running_strands_nothing(alone):
    """Both claim at the same time from one queue, until nothing waits."""
    made = {queue(alone, tenant, f"identity {5 + number % 2}") for tenant in (ANNA, BEN) for number in range(20)}
    done: dict[tuple[str, ...], list[RenderId]] = {OLD: [], NEW: []}

    def work(serves):
        while alone.jobs.backlog("render").num_queued:
            claim = alone.jobs.claim("render", worker="w", lease_s=60, terms=Terms(serves=serves))
            if claim is not None:
                alone.jobs.finish(claim, {})
                done[serves].append(claim.job.id)

    threads = [threading.Thread(target=work, args=(serves,)) for serves in (OLD, NEW)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, done[OLD] + done[NEW])) == sorted(map(str, made))  # each once
    jobs = [alone.jobs.get(tenant, job.id) for tenant in (ANNA, BEN) for job in alone.jobs.list(tenant, "render")]
    assert {(job.status, job.attempt) for job in jobs} == {("done", 1)}
    assert all("identity 5" in alone.jobs.get(job.tenant, job.id).needs for job in jobs if job.id in done[OLD])
