"""Small files that are kept with a job: there as long as the job is open, and never too many."""

from __future__ import annotations

import pytest

from cluster.faults import Backoff
from cluster.ids import RenderId
from cluster.state import keys
from cluster.state.jobs import Jobs
from cluster.state.new_jobs import Files, NewJob, NoRoomForFiles, Once
from cluster.state.problems import Problem
from m2dao.errors import UnknownObject

CONTENTS = {"speech.wav": bytes(range(256)) * 100, "sound.flac": b"\xff\x00\r\n"}
MANY = 1_000_000


def new_job(tenant, *, most_open=MANY, once=None):
    files = Files(contents=CONTENTS, most_open=most_open)
    return NewJob(tenant=tenant, kind="render", job_id=RenderId.new(), request={"n": 1}, files=files, once=once)


def take(jobs, tenant):
    claim = jobs.claim("render", worker="w", lease_s=60, tenant=tenant)
    assert claim is not None
    return claim


ENDS = {
    "done": lambda jobs, tenant: jobs.finish(take(jobs, tenant), {}),
    "cancelled": lambda jobs, tenant: jobs.cancel(tenant, take(jobs, tenant).job.id),
    "cancelled while it waits": lambda jobs, tenant: jobs.cancel(tenant, jobs.list(tenant, "render")[0].id),
}


@pytest.mark.parametrize("end", sorted(ENDS))
def test_files_leave_with_the_end_of_their_job(state, tenant, end):
    job, _ = state.jobs.add(new_job(tenant))
    assert state._link.blobs(keys.files(tenant, job.id)) == CONTENTS
    ENDS[end](state.jobs, tenant)
    assert state._link.blobs(keys.files(tenant, job.id)) == {}


def test_files_of_a_job_that_failed_stay_for_an_hour(state, tenant):
    job, _ = state.jobs.add(new_job(tenant))
    state.jobs.fail(take(state.jobs, tenant), Problem(code="x"))
    assert state.jobs.kept_files(tenant, job.id) == CONTENTS
    assert 0 < state._link.call("TTL", keys.files(tenant, job.id)) <= 3600


def test_files_stay_while_a_job_is_tried_again(state, tenant):
    jobs = Jobs(state._link, backoff=Backoff(base_s=0.001, max_s=0.001))
    job, _ = jobs.add(new_job(tenant))
    jobs.fail(take(jobs, tenant), Problem(code="x"), retry=True)
    jobs.release(take(jobs, tenant))
    jobs.put_off(take(jobs, tenant), Problem(code="x"), most=9)
    assert state._link.blobs(keys.files(tenant, job.id)) == CONTENTS


def test_a_worker_reads_the_files_until_the_job_has_ended(state, tenant):
    state.jobs.add(new_job(tenant))
    claim = take(state.jobs, tenant)
    assert state.jobs.files(claim) == CONTENTS
    state.jobs.cancel(tenant, claim.job.id)
    with pytest.raises(UnknownObject):
        state.jobs.files(claim)


def test_no_files_are_taken_when_so_many_jobs_are_open_and_nothing_is_created(state, tenant):
    state.jobs.requeue_expired("render")  # counts anew what other tests have left
    backlog = state.jobs.backlog("render")
    num_open = backlog.num_queued + backlog.num_running + backlog.num_delayed
    state.jobs.add(new_job(tenant, most_open=num_open + 1))
    with pytest.raises(NoRoomForFiles):
        state.jobs.add(new_job(tenant, most_open=num_open + 1))
    assert len(state.jobs.list(tenant, "render")) == 1
    assert len(list(state._link.scan(f"{tenant}:files:*"))) == 1


def test_a_second_request_under_the_same_key_keeps_no_files_of_its_own(state, tenant):
    once = Once(key="k", fingerprint="f")
    first, _ = state.jobs.add(new_job(tenant, once=once))
    again, is_new = state.jobs.add(new_job(tenant, once=once))
    assert (again.id, is_new) == (first.id, False)
    assert list(state._link.scan(f"{tenant}:files:*")) == [keys.files(tenant, first.id)]


def test_files_leave_with_their_tenant(state, tenant):
    state.jobs.add(new_job(tenant))
    state.accounts.delete_tenant(tenant)
    assert list(state._link.scan(f"{tenant}:*")) == []
