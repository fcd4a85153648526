"""Jobs that wait because something of ours is away, and leases that nobody could renew."""

from __future__ import annotations

import pytest

from cluster.ids import RenderId
from cluster.state import keys
from cluster.state.jobs import Jobs
from cluster.state.problems import Problem
from m2dao.errors import LeaseLost, QuotaExceeded

AWAY = Problem(code="storage-unavailable", title="away")


@pytest.fixture
def jobs(state) -> Jobs:
    return state.jobs


def take(jobs, tenant, **more):
    return jobs.claim("render", worker="w", lease_s=60, tenant=tenant, **more)


def its_time_has_come(state, job):
    state._link.call("ZADD", keys.delayed(job.tenant, job.kind), "XX", 1, str(job.id))


def expire(state, job):
    state._link.call("ZADD", keys.job_lists(job.tenant, job.kind)[1], "XX", 1, str(job.id))


def test_a_job_that_is_put_off_waits_and_has_used_no_attempt(state, jobs, tenant):
    jobs.create(tenant, "render", {}, max_attempts=1)
    for count in (1, 2, 3):
        waiting = jobs.put_off(take(jobs, tenant), AWAY, most=100)
        assert (waiting.status, waiting.attempt, waiting.num_put_off) == ("queued", 0, count)
        assert waiting.retry_at_s > waiting.updated_s
        assert take(jobs, tenant) is None
        assert jobs.backlog("render", tenant=tenant).num_delayed == 1
        its_time_has_come(state, waiting)
    claim = take(jobs, tenant)
    assert (claim.job.attempt, claim.job.retry_at_s) == (1, 0.0)
    assert jobs.finish(claim, {}).status == "done"


def test_the_waits_grow(jobs, tenant, state):
    waits = []
    jobs.create(tenant, "render", {})
    for _ in range(4):
        waiting = jobs.put_off(take(jobs, tenant), AWAY, most=100)
        waits.append(waiting.retry_at_s - waiting.updated_s)
        its_time_has_come(state, waiting)
    assert 0.5 <= waits[0] <= 1.0
    assert 4.0 <= waits[3] <= 8.0


def test_what_never_mends_fails_in_the_end_with_its_reason(jobs, tenant):
    jobs.create(tenant, "render", {})
    failed = jobs.put_off(take(jobs, tenant), AWAY, most=0)
    assert (failed.status, failed.error) == ("failed", AWAY)
    assert take(jobs, tenant) is None


def test_a_job_that_is_put_off_counts_against_the_quota_and_can_be_cancelled(jobs, tenant):
    jobs.create(tenant, "render", {})
    waiting = jobs.put_off(take(jobs, tenant), AWAY, most=9)
    with pytest.raises(QuotaExceeded):
        jobs.create(tenant, "render", {}, max_open=1)
    jobs.cancel(tenant, waiting.id)
    jobs.create(tenant, "render", {}, max_open=1)
    assert jobs.backlog("render", tenant=tenant).num_delayed == 0


def test_a_tenant_whose_only_job_is_put_off_keeps_its_place_among_the_tenants(state, jobs, tenant):
    jobs.create(tenant, "render", {})
    waiting = jobs.put_off(take(jobs, tenant), AWAY, most=9)
    assert take(jobs, tenant) is None
    its_time_has_come(state, waiting)
    jobs.requeue_expired("render")
    assert jobs.get(tenant, waiting.id).retry_at_s == 0.0
    assert take(jobs, tenant).job.id == waiting.id


def test_a_worker_that_failed_a_job_is_remembered(state, jobs, tenant):
    jobs.create(tenant, "render", {})
    its_time_has_come(state, jobs.put_off(take(jobs, tenant), AWAY, most=9, failed_on="a"))
    jobs.fail(take(jobs, tenant), AWAY, retry=True, failed_on="b")
    claim = take(jobs, tenant)
    assert (claim.job.failed_on, claim.job.attempt) == (("a", "b"), 2)
    its_time_has_come(state, jobs.dodge(claim))
    assert (take(jobs, tenant).job.num_dodged, jobs.get(tenant, claim.job.id).attempt) == (1, 2)


def test_after_a_silence_of_the_store_whoever_lives_may_renew_first(state, jobs, tenant):
    jobs.create(tenant, "render", {}, max_attempts=1)
    claim = take(jobs, tenant)
    expire(state, claim.job)
    state._link.call("SET", "pulse:render", "1")  # nobody could speak since
    assert take(jobs, tenant) is None
    assert jobs.get(tenant, claim.job.id).status == "running"
    jobs.heartbeat(claim, lease_s=60)
    assert jobs.finish(claim, {}).status == "done"


def test_a_worker_that_does_not_speak_after_a_silence_has_lost_its_job(state, jobs, tenant):
    jobs.create(tenant, "render", {})
    claim = take(jobs, tenant)
    expire(state, claim.job)
    state._link.call("SET", "pulse:render", "1")
    jobs.requeue_expired("render")
    expire(state, claim.job)  # its grace has passed
    assert take(jobs, tenant).job.attempt == 2
    with pytest.raises(LeaseLost):
        jobs.heartbeat(claim, lease_s=60)


def test_a_claim_counts_as_an_attempt_once_a_worker_has_begun_it(state, jobs, tenant):
    jobs.create(tenant, "render", {})
    expire(state, take(jobs, tenant, begun=False).job)
    sent = take(jobs, tenant, begun=False)
    assert sent.job.attempt == 1
    begun = jobs.begin(tenant, sent.job.id, sent.fence, worker="replica", lease_s=60)
    assert (begun.job.worker, begun.job.stage) == ("replica", "starting")
    expire(state, begun.job)
    assert take(jobs, tenant).job.attempt == 2


def test_jobs_that_an_older_version_queued_or_claimed_are_still_done(state, jobs, tenant):
    """The fields, queues and scores that commit af8ef41 wrote."""
    queued, running = RenderId.new(), RenderId.new()
    queue, leases, index = keys.job_lists(tenant, "render")
    for job_id, status, fence in ((queued, "queued", 0), (running, "running", 3)):
        fields = {
            "id": job_id, "tenant": tenant, "kind": "render", "status": status, "progress": "0", "stage": "",
            "request": '{"n": 1}', "attempt": min(1, fence), "max_attempts": 3, "fence": fence, "worker": "old",
            "cost": "2.5", "created": "1764000000000000", "updated": "1764000000000000",
        }  # fmt: skip
        words = [str(word) for pair in fields.items() for word in pair]
        state._link.call("HSET", keys.job(tenant, job_id), *words)
        state._link.call("ZADD", index, "1764000000000000", str(job_id))
    state._link.call("ZADD", queue, "1764000000000000", str(queued))
    state._link.call("ZADD", leases, "9764000000000000", str(running))
    state._link.call("ZADD", "turn:render", "1764000000000000", str(tenant))
    claim = take(jobs, tenant)
    assert (claim.job.id, claim.job.attempt) == (queued, 1)
    assert jobs.finish(claim, {"n": 1}).result == {"n": 1}
    old = jobs.begin(tenant, running, 3, worker="w", lease_s=60)
    jobs.heartbeat(old, lease_s=60, progress=0.5)
    assert jobs.finish(old, {"n": 2}).attempt == 1
    backlog = jobs.backlog("render", tenant=tenant)
    assert (backlog.num_queued, backlog.num_running, backlog.num_delayed) == (0, 0, 0)
