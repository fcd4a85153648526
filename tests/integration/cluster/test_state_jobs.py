"""Durable jobs, against a real Valkey: leases, fencing, attempts, idempotency, turns, isolation."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.ids import RESERVED_TENANTS, FitId, RenderId, TenantId
from cluster.state import keys
from cluster.state.jobs import Jobs
from cluster.state.new_jobs import Once
from cluster.state.problems import Problem
from m2dao.errors import (
    AlreadyExists,
    Conflict,
    InputError,
    LeaseLost,
    QuotaExceeded,
    UnknownJob,
    UnknownTenant,
)

PROBLEM = Problem(code="x", title="y", detail="z")


def expire(state, job):
    """Let the lease of a job end now, without waiting for it."""
    state._link.call("ZADD", f"{job.tenant}:leases:{job.kind}", "XX", 1, str(job.id))


def take(jobs, tenant, worker="w", lease_s=60):
    claim = jobs.claim("render", worker=worker, lease_s=lease_s, tenant=tenant)
    assert claim is not None
    return claim


def test_a_job_goes_from_queued_through_running_to_done(jobs, tenant):
    job, new = jobs.create(tenant, "render", {"text": "ü", "n": [1, None]})
    assert new
    assert job.status == "queued"
    assert job.attempt == 0
    assert job.request == {"text": "ü", "n": [1, None]}
    claim = take(jobs, tenant, worker="replica-1")
    assert claim.job.status == "running"
    assert claim.job.attempt == 1
    assert claim.job.worker == "replica-1"
    jobs.heartbeat(claim, lease_s=60, progress=0.25, stage="rendering")
    seen = jobs.get(tenant, job.id)
    assert (seen.progress, seen.stage, seen.finished) == (0.25, "rendering", False)
    done = jobs.finish(claim, {"frames": 10})
    assert (done.status, done.result, done.progress, done.finished) == ("done", {"frames": 10}, 1.0, True)
    assert done.updated_s >= done.created_s
    assert jobs.claim("render", worker="w", lease_s=60, tenant=tenant) is None


def test_jobs_are_taken_in_the_order_they_came(jobs, tenant):
    made = [jobs.create(tenant, "render", {"n": n})[0].id for n in range(5)]
    assert [take(jobs, tenant).job.id for _ in range(5)] == made


def test_each_job_is_claimed_once_however_many_workers_ask(jobs, tenant):
    made = {jobs.create(tenant, "render", {"n": n})[0].id for n in range(40)}
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: jobs.claim("render", worker=f"w{n}", lease_s=60, tenant=tenant), range(60)))
    taken = [claim.job.id for claim in claims if claim]
    assert len(taken) == 40
    assert set(taken) == made


def test_when_a_lease_runs_out_the_job_is_taken_over_and_the_old_worker_is_refused(state, jobs, tenant):
    jobs.create(tenant, "render", {})
    slow = take(jobs, tenant, "slow")
    jobs.heartbeat(slow, lease_s=60, progress=0.9, stage="almost")
    expire(state, slow.job)
    fast = take(jobs, tenant, "fast")
    assert fast.job.id == slow.job.id
    assert fast.fence > slow.fence
    assert fast.job.attempt == 2
    assert fast.job.progress == 0
    assert fast.job.stage == ""
    for word in (
        lambda: jobs.heartbeat(slow, lease_s=60),
        lambda: jobs.finish(slow, {"from": "slow"}),
        lambda: jobs.fail(slow, PROBLEM),
        lambda: jobs.release(slow),
    ):
        with pytest.raises(LeaseLost):
            word()
    assert jobs.finish(fast, {"from": "fast"}).result == {"from": "fast"}
    with pytest.raises(LeaseLost):
        jobs.finish(slow, {"from": "slow"})
    assert jobs.get(tenant, slow.job.id).result == {"from": "fast"}


def test_a_heartbeat_keeps_the_lease(state, jobs, tenant):
    jobs.create(tenant, "render", {})
    claim = take(jobs, tenant)
    expire(state, claim.job)
    jobs.heartbeat(claim, lease_s=60)  # late, but nobody has taken the job
    assert jobs.claim("render", worker="other", lease_s=60, tenant=tenant) is None


def test_a_short_lease_really_ends(jobs, tenant):
    jobs.create(tenant, "render", {})
    first = jobs.claim("render", worker="dies", lease_s=0.001, tenant=tenant)
    second = None
    while second is None:  # the clock that counts is Redis's
        second = jobs.claim("render", worker="next", lease_s=60, tenant=tenant)
    assert second.job.id == first.job.id


def test_finishing_twice_under_one_claim_changes_nothing(jobs, tenant):
    jobs.create(tenant, "render", {})
    claim = take(jobs, tenant)
    first = jobs.finish(claim, {"n": 1})
    again = jobs.finish(claim, {"n": 2})  # the answer to the first was lost, say
    assert again == first
    with pytest.raises(LeaseLost):
        jobs.fail(claim, PROBLEM)


def test_a_job_that_kills_its_workers_fails_after_its_attempts(state, jobs, tenant):
    job, _ = jobs.create(tenant, "render", {}, max_attempts=2)
    for _ in range(2):
        expire(state, take(jobs, tenant).job)
    assert jobs.claim("render", worker="w", lease_s=60, tenant=tenant) is None
    failed = jobs.get(tenant, job.id)
    assert failed.status == "failed"
    assert failed.error.code == "attempts-exhausted"
    assert failed.attempt == 2


def test_requeueing_needs_no_worker_that_asks(state, jobs, tenant):
    job, _ = jobs.create(tenant, "render", {})
    expire(state, take(jobs, tenant).job)
    jobs.requeue_expired("render")
    assert jobs.get(tenant, job.id).status == "queued"


def test_a_failure_is_final_unless_a_retry_is_asked_for_and_left(jobs, tenant):
    jobs.create(tenant, "render", {}, max_attempts=2)
    assert jobs.fail(take(jobs, tenant), PROBLEM, retry=True).status == "queued"
    failed = jobs.fail(take(jobs, tenant), PROBLEM, retry=True)
    assert failed.status == "failed"
    assert failed.error == PROBLEM
    assert failed.attempt == 2
    jobs.create(tenant, "render", {})
    assert jobs.fail(take(jobs, tenant), PROBLEM).status == "failed"


def test_a_job_that_was_given_back_has_used_no_attempt_and_is_first_again(jobs, tenant):
    first, _ = jobs.create(tenant, "render", {}, max_attempts=1)
    jobs.create(tenant, "render", {})
    assert jobs.release(take(jobs, tenant)).attempt == 0
    again = take(jobs, tenant)
    assert again.job.id == first.id
    assert again.job.attempt == 1


def test_a_cancelled_job_is_not_taken_and_its_worker_learns_of_it(jobs, tenant):
    waiting, _ = jobs.create(tenant, "render", {})
    assert jobs.cancel(tenant, waiting.id).status == "cancelled"
    assert jobs.claim("render", worker="w", lease_s=60, tenant=tenant) is None
    jobs.create(tenant, "render", {})
    claim = take(jobs, tenant)
    jobs.cancel(tenant, claim.job.id)
    with pytest.raises(LeaseLost):
        jobs.heartbeat(claim, lease_s=60)
    with pytest.raises(LeaseLost):
        jobs.finish(claim, {})
    assert jobs.cancel(tenant, claim.job.id).status == "cancelled"  # as it was
    jobs.create(tenant, "render", {})
    done = jobs.finish(take(jobs, tenant), {})
    with pytest.raises(Conflict):
        jobs.cancel(tenant, done.id)
    assert jobs.backlog("render", tenant=tenant).num_running == 0


def test_an_id_whose_record_is_gone_is_passed_over_and_never_becomes_a_job(state, jobs, tenant):
    gone, _ = jobs.create(tenant, "render", {})
    there, _ = jobs.create(tenant, "render", {})
    state._link.call("DEL", keys.job(tenant, gone.id))
    assert take(jobs, tenant).job.id == there.id
    assert state._link.call("EXISTS", keys.job(tenant, gone.id)) == 0
    assert jobs.claim("render", worker="w", lease_s=60, tenant=tenant) is None
    assert state._link.call("EXISTS", keys.job_lists(tenant, "render")[0]) == 0


def test_a_lease_whose_record_is_gone_ends_without_a_trace(state, jobs, tenant):
    jobs.create(tenant, "render", {})
    claim = take(jobs, tenant)
    expire(state, claim.job)
    state._link.call("DEL", keys.job(tenant, claim.job.id))
    jobs.requeue_expired("render")
    assert state._link.call("EXISTS", keys.job(tenant, claim.job.id)) == 0
    assert jobs.claim("render", worker="w", lease_s=60, tenant=tenant) is None


def test_what_an_older_claim_made_of_a_record_that_was_gone_is_no_job(state, jobs, tenant):
    """A claim once wrote to records that were gone, and what it left had neither id nor attempts allowed."""
    ghost = RenderId.new()
    queue, leases, index = keys.job_lists(tenant, "render")
    state._link.call("HSET", keys.job(tenant, ghost), "status", "running", "attempt", "1", "fence", "1", "worker", "w")
    state._link.call("ZADD", leases, 1, str(ghost))
    state._link.call("ZADD", index, 1, str(ghost))
    state._link.call("ZADD", "turn:render", 0, str(tenant))
    jobs.requeue_expired("render")
    with pytest.raises(UnknownJob):
        jobs.get(tenant, ghost)
    with pytest.raises(UnknownJob):
        jobs.cancel(tenant, ghost)
    assert jobs.list(tenant, "render") == []


def test_one_job_can_be_claimed_by_its_id(jobs, tenant):
    jobs.create(tenant, "render", {})
    wanted, _ = jobs.create(tenant, "render", {})
    claim = jobs.claim("render", worker="w", lease_s=60, tenant=tenant, job_id=wanted.id)
    assert claim.job.id == wanted.id
    assert jobs.claim("render", worker="w", lease_s=60, tenant=tenant, job_id=wanted.id) is None
    with pytest.raises(TypeError):
        jobs.claim("render", worker="w", lease_s=60, job_id=wanted.id)


def test_the_quota_counts_open_jobs_and_holds_under_a_rush(jobs, tenant):
    def create(_):
        try:
            return jobs.create(tenant, "render", {}, max_open=5)[0]
        except QuotaExceeded:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [job for job in pool.map(create, range(24)) if job]
    assert len(made) == 5
    claim = take(jobs, tenant)
    assert create(0) is None  # a running job is open too
    jobs.finish(claim, {})
    assert create(0) is not None


def test_tenants_take_turns(state, tenant, stack):
    others = [tenant, TenantId(f"{tenant}-b"), TenantId(f"{tenant}-c")]
    for other in others[1:]:
        state.accounts.create_tenant(other)
    jobs = state.jobs
    while jobs.claim("fit", worker="w", lease_s=60):  # what earlier tests have left
        pass
    for _ in range(20):
        jobs.create(others[0], "fit", {})
    for other in others[1:]:
        jobs.create(other, "fit", {})
    first = [jobs.claim("fit", worker="w", lease_s=60).job.tenant for _ in range(4)]
    assert set(first[:3]) == set(others)
    assert first[3] == others[0]


def test_the_backlog_adds_up(jobs, tenant):
    jobs.create(tenant, "render", {}, cost=2.5)
    jobs.create(tenant, "render", {}, cost=4)
    jobs.create(tenant, "fit", {})
    take(jobs, tenant)
    backlog = jobs.backlog("render", tenant=tenant)
    assert (backlog.num_queued, backlog.num_running, backlog.queued_cost) == (1, 1, 4.0)
    everybody = jobs.backlog("render")
    assert everybody.num_queued >= 1
    assert everybody.num_running >= 1


def test_the_list_shows_the_newest_first_by_page_and_drops_what_has_expired(state, jobs, tenant):
    made = [jobs.create(tenant, "render", {"n": n})[0].id for n in range(5)]
    assert [job.id for job in jobs.list(tenant, "render", limit=2)] == [made[4], made[3]]
    assert [job.id for job in jobs.list(tenant, "render", limit=2, offset=3)] == [made[1], made[0]]
    state._link.call("DEL", f"{tenant}:job:{made[2]}")
    assert [job.id for job in jobs.list(tenant, "render")] == [made[4], made[3], made[1], made[0]]
    assert jobs.list(tenant, "fit") == []


def test_finished_jobs_leave_after_their_time_and_open_ones_stay(state, tenant):
    jobs = Jobs(state._link, retention_s=1000)
    job, _ = jobs.create(tenant, "render", {})
    key = f"{tenant}:job:{job.id}"
    assert state._link.call("TTL", key) == -1
    jobs.finish(take(jobs, tenant), {})
    assert 0 < state._link.call("TTL", key) <= 1000


def test_an_id_that_was_chosen_is_used_once(jobs, tenant):
    job_id = RenderId.new()
    first, _ = jobs.create(tenant, "render", {}, job_id=job_id)
    assert first.id == job_id
    assert jobs.create(tenant, "render", {}, job_id=job_id) == (first, True)  # asked again: nobody knew
    with pytest.raises(AlreadyExists):
        jobs.create(tenant, "render", {"other": 1}, job_id=job_id)
    with pytest.raises(TypeError):
        jobs.create(tenant, "render", {}, job_id=FitId.new())


def test_nobody_can_queue_for_a_tenant_that_does_not_exist(jobs):
    with pytest.raises(UnknownTenant):
        jobs.create(TenantId("nobody"), "render", {})


def test_senseless_words_are_refused(jobs, tenant):
    jobs.create(tenant, "render", {})
    claim = take(jobs, tenant)
    for word in (
        lambda: jobs.create(tenant, "dance", {}),
        lambda: jobs.claim("dance", worker="w", lease_s=1),
        lambda: jobs.heartbeat(claim, lease_s=0),
        lambda: jobs.heartbeat(claim, lease_s=60, progress=1.5),
        lambda: jobs.heartbeat(claim, lease_s=60, progress=float("nan")),
    ):
        with pytest.raises(InputError):
            word()
    with pytest.raises(ValueError, match="JSON"):
        jobs.finish(claim, {"loss": float("nan")})


def test_every_change_of_a_job_is_announced_in_order(state, jobs, tenant):
    job, _ = jobs.create(tenant, "render", {})
    with state.events.subscribe(job=(tenant, job.id)) as changes:
        claim = take(jobs, tenant)
        jobs.heartbeat(claim, lease_s=60)  # says nothing new
        jobs.heartbeat(claim, lease_s=60, progress=0.5, stage="rendering")
        jobs.finish(claim, {})
        heard = [changes.get(5)[1] for _ in range(3)]
        assert changes.get(0.01) is None
    assert [(m["status"], m["progress"], m["stage"]) for m in heard] == [
        ("running", 0, ""),
        ("running", 0.5, "rendering"),
        ("done", 1, "rendering"),
    ]
    assert {(m["tenant"], m["job"]) for m in heard} == {(str(tenant), str(job.id))}


def test_every_key_begins_with_its_tenant_or_is_one_of_the_documented_few(state, jobs, tenant):
    state.accounts.create_api_key(tenant)
    jobs.create(tenant, "render", {"marker": "looked-for"}, once=Once(key="k"))
    known = {str(name) for name in state.accounts.list_tenants()}
    for key in state._link.scan("*"):
        first = key.split(":")[0]
        assert first in known or first in RESERVED_TENANTS, key
        if first not in known:
            kind = state._link.call("TYPE", key)
            content = state._link.hash(key) if kind == "hash" else state._link.call("TYPE", key)
            assert "looked-for" not in json.dumps(content)


def test_a_blocked_listener_hears_of_a_job_from_another_thread(state, jobs, tenant):
    job, _ = jobs.create(tenant, "render", {})
    heard, listening = [], threading.Event()

    def listen():
        with state.events.subscribe(job=(tenant, job.id)) as changes:
            listening.set()
            heard.append(changes.get(10))

    thread = threading.Thread(target=listen)
    thread.start()
    assert listening.wait(10)
    take(jobs, tenant)
    thread.join(10)
    assert heard
    assert heard[0][1]["status"] == "running"
