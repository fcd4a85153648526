"""What is kept of jobs shrinks by itself, and what is said of them does not grow with what others do."""

from __future__ import annotations

import contextlib
import random

import pytest

from cluster.faults import Backoff
from cluster.ids import RenderId, TenantId
from cluster.state import keys
from cluster.state.jobs import Jobs
from cluster.state.problems import Problem
from cluster.state.records import Terms
from m2dao.errors import LeaseLost


def take(jobs, tenant):
    return jobs.claim("render", worker="w", lease_s=60, tenant=tenant)


def its_record_has_left(state, job):
    state._link.call("DEL", keys.job(job.tenant, job.id))
    state._link.call("ZADD", f"{job.tenant}:leaving:render", "XX", 1, str(job.id))


ENDS = {
    "done": lambda jobs, tenant: jobs.finish(take(jobs, tenant), {}),
    "failed": lambda jobs, tenant: jobs.fail(take(jobs, tenant), Problem(code="x")),
    "cancelled": lambda jobs, tenant: jobs.cancel(tenant, take(jobs, tenant).job.id),
}


@pytest.mark.parametrize("end", sorted(ENDS))
def test_the_index_forgets_ended_jobs_with_their_records_without_anybody_who_lists(state, tenant, end):
    for _ in range(30):
        state.jobs.create(tenant, "render", {})
    waiting = state.jobs.list(tenant, "render", limit=29)  # all but the oldest, and it is the next
    ended = ENDS[end](state.jobs, tenant)
    its_record_has_left(state, ended)
    made, _ = state.jobs.create(tenant, "render", {})
    index = state._link.call("ZRANGE", keys.job_lists(tenant, "render")[2], 0, -1)
    assert set(index) == {str(job.id) for job in waiting} | {str(made.id)}
    assert state._link.call("EXISTS", f"{tenant}:leaving:render") == 0


def test_a_record_that_is_kept_keeps_its_place_in_the_index(state, tenant):
    jobs = Jobs(state._link, retention_s=1000)
    jobs.create(tenant, "render", {})
    done = jobs.finish(take(jobs, tenant), {})
    jobs.create(tenant, "render", {})
    assert done.id in [job.id for job in jobs.list(tenant, "render")]


def test_the_index_that_an_older_version_left_shrinks_as_well(state, tenant):
    index = keys.job_lists(tenant, "render")[2]
    for number in range(60):
        state._link.call("ZADD", index, number + 1, str(RenderId.new()))
    for _ in range(3):
        state.jobs.create(tenant, "render", {})
    assert state._link.call("ZCARD", index) == 3


def test_a_follower_of_a_tenants_fits_hears_of_nothing_else(state, tenant):
    other = TenantId(f"{tenant}-other")
    state.accounts.create_tenant(other)
    with state.events.subscribe(jobs=(tenant, "fit")) as changes:
        state.jobs.create(other, "fit", {})
        state.jobs.create(tenant, "render", {})
        fit, _ = state.jobs.create(tenant, "fit", {})
        assert changes.get(5)[1]["job"] == str(fit.id)
        assert changes.get(0.01) is None


def test_progress_is_announced_by_the_hundredth_and_a_stage_at_once(state, tenant):
    job, _ = state.jobs.create(tenant, "render", {})
    claim = take(state.jobs, tenant)
    with state.events.subscribe(job=(tenant, job.id)) as changes:
        for number in range(200):  # far more than are announced, however slow this machine is
            state.jobs.heartbeat(claim, lease_s=60, progress=number / 100_000, stage="rendering")
        state.jobs.heartbeat(claim, lease_s=60, progress=0.5, stage="storing")
        heard = []
        while message := changes.get(0.2):
            heard.append((message[1]["stage"], message[1]["progress"]))
    assert heard == [("rendering", 0), ("storing", 0.5)]
    assert state.jobs.get(tenant, job.id).progress == 0.5


def test_the_sums_follow_jobs_wherever_they_go(state, tenant):
    """Random walks through every change a job can meet; the sums are then what the records add up to."""
    jobs, rng, claims = Jobs(state._link, backoff=Backoff(base_s=0.001, max_s=0.001)), random.Random(7), []
    away = Problem(code="x")
    ends = [
        lambda claim: jobs.finish(claim, {}),
        lambda claim: jobs.fail(claim, away),
        lambda claim: jobs.fail(claim, away, retry=True),
        lambda claim: jobs.put_off(claim, away, most=99),
        jobs.release,
        jobs.dodge,
        lambda claim: jobs.cancel(tenant, claim.job.id),
        lambda claim: state._link.call("ZADD", f"{tenant}:leases:render", 1, str(claim.job.id)),
    ]
    for _ in range(150):
        if rng.random() < 0.5:
            jobs.create(tenant, "render", {}, cost=rng.choice([0.5, 2.125, 600]))
        if rng.random() < 0.7 and (claim := take(jobs, tenant)):
            claims.append(claim)
        if claims and rng.random() < 0.6:
            with contextlib.suppress(LeaseLost):
                rng.choice(ends)(claims.pop(rng.randrange(len(claims))))
    sums = state._link.hash(f"{tenant}:backlog:render")
    for place in ("queue", "leases", "delayed"):
        ids = state._link.call("ZRANGE", f"{tenant}:{place}:render", 0, -1)
        costs = [float(state._link.call("HGET", keys.job(tenant, RenderId.parse(each)), "cost")) for each in ids]
        assert int(sums[place]) == round(1000 * sum(costs)), place
    backlog = jobs.backlog("render", tenant=tenant)
    assert (backlog.queued_cost, backlog.running_cost) == (int(sums["queue"]) / 1000, int(sums["leases"]) / 1000)


def test_the_sums_of_what_an_older_version_queued_are_made_from_its_records(state, tenant):
    for cost in (1.5, 2):
        state.jobs.create(tenant, "render", {}, cost=cost)
    take(state.jobs, tenant)
    state._link.call("DEL", f"{tenant}:backlog:render")
    backlog = state.jobs.backlog("render", tenant=tenant)
    assert (backlog.queued_cost, backlog.running_cost) == (2.0, 1.5)


def test_a_tenant_that_has_as_much_running_as_it_may_is_passed_over(state, tenant):
    jobs, kind = state.jobs, "render"
    made = [jobs.create(tenant, kind, {})[0] for _ in range(3)]
    words = {"worker": "w", "lease_s": 60, "tenant": tenant, "terms": Terms(max_running=2)}
    first, second = jobs.claim(kind, **words), jobs.claim(kind, **words)
    assert jobs.claim(kind, **words) is None
    jobs.finish(first, {})
    assert jobs.claim(kind, **words).job.id == made[2].id
    assert second.job.id == made[1].id
