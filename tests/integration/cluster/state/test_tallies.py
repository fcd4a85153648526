"""What happened is counted once, whoever asks twice."""

from __future__ import annotations

import pytest

from cluster.ids import IdentityName, ModelRef
from cluster.state import keys
from cluster.state.problems import Problem
from cluster.state.tallies import ENDED, LEASES_LOST, MOVES, PUT_OFF, RETRIED
from cluster.state.versions import VersionFacts
from m2dao.errors import PromotionConflict

AWAY = Problem(code="storage-unavailable", title="away")


@pytest.fixture
def counted(state):
    """How much the counts have grown since the test began; other tests count too, in the same store."""
    before = state.tallies.read()

    def grown():
        return {words: n - before.get(words, 0) for words, n in state.tallies.read().items() if n != before.get(words)}

    return grown


def take(state, tenant):
    return state.jobs.claim("render", worker="w", lease_s=60, tenant=tenant)


def test_each_end_of_a_job_is_counted_once(state, tenant, counted):
    for _ in range(3):
        state.jobs.create(tenant, "render", {})
    done = take(state, tenant)
    for _ in range(2):
        state.jobs.finish(done, {})
    state.jobs.fail(take(state, tenant), AWAY)
    waiting = state.jobs.list(tenant, "render")[0]
    for _ in range(2):
        state.jobs.cancel(tenant, waiting.id)
    assert counted() == {
        (ENDED, "render", "done", ""): 1,
        (ENDED, "render", "failed", "storage-unavailable"): 1,
        (ENDED, "render", "cancelled", ""): 1,
    }


def test_waits_and_tries_are_counted_by_their_reason(state, tenant, counted):
    for _ in range(2):
        state.jobs.create(tenant, "render", {})
    state.jobs.put_off(take(state, tenant), AWAY, most=5)
    state.jobs.fail(take(state, tenant), AWAY, retry=True)
    assert counted() == {
        (PUT_OFF, "render", "storage-unavailable"): 1,
        (RETRIED, "render", "storage-unavailable"): 1,
    }


def test_a_lease_that_ran_out_is_counted(state, tenant, counted):
    state.jobs.create(tenant, "render", {}, max_attempts=1)
    job = take(state, tenant).job
    state._link.call("ZADD", keys.job_lists(tenant, "render")[1], "XX", 1, str(job.id))
    state.jobs.requeue_expired("render")
    assert counted() == {(LEASES_LOST, "render"): 1, (ENDED, "render", "failed", "attempts-exhausted"): 1}


def test_promotions_are_counted_by_their_outcome(state, tenant, counted):
    ref = ModelRef(tenant, IdentityName("anna"), 1)
    state.versions.commit(ref, VersionFacts(files_sha256="a" * 64, num_bytes=3))
    for _ in range(2):
        state.champions.promote(ref, request="once")
    with pytest.raises(PromotionConflict):
        state.champions.promote(ref, epoch=7)
    assert counted() == {(MOVES, "promote", "moved"): 1, (MOVES, "promote", "conflict"): 1}


def test_what_another_release_counts_otherwise_is_passed_over(state, counted):
    state._link.call("HINCRBY", keys.TALLIES, "ended|render", 1)
    state._link.call("HINCRBY", keys.TALLIES, "something new", 1)
    assert counted() == {}


def test_a_count_needs_its_words(state):
    with pytest.raises(TypeError, match="3 words"):
        state.tallies.add(ENDED, "render")


def test_the_oldest_job_that_nobody_has_begun_is_told(state, tenant):
    old, young = (state.jobs.create(tenant, "fit", {})[0] for _ in range(2))
    state._link.call("HSET", keys.job(tenant, old.id), "created", round((old.created_s - 500) * 1e6))
    assert 500 <= state.tallies.longest_wait_s("fit") < 600
    sent_on = state.jobs.claim("fit", worker="dispatcher", lease_s=60, tenant=tenant, begun=False)
    assert state.tallies.longest_wait_s("fit") >= 500  # a worker has yet to begin it
    begun = state.jobs.begin(tenant, old.id, sent_on.fence, worker="w", lease_s=60)
    assert state.tallies.longest_wait_s("fit") < 500
    state.jobs.put_off(begun, AWAY, most=5)
    assert state.tallies.longest_wait_s("fit") >= 500
    state.jobs.cancel(tenant, old.id)
    state.jobs.cancel(tenant, young.id)
    assert state.tallies.longest_wait_s("fit") < 500
