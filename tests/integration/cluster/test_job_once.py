"""Requests that a client repeats under one key, against a real Valkey: one job, however often it asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.ids import TenantId
from cluster.state.new_jobs import Once
from m2dao.errors import IdempotencyConflict, InputError, UnknownJob


def test_many_creates_with_one_key_make_one_job(jobs, tenant):
    def create(_):
        return jobs.create(tenant, "render", {"a": 1, "b": 2}, once=Once(key="order 7"))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(create, range(32)))
    assert len({job.id for job, _ in results}) == 1
    assert [new for _, new in results].count(True) == 1
    assert jobs.backlog("render", tenant=tenant).num_queued == 1


def test_the_same_key_with_another_request_is_a_conflict(jobs, tenant):
    jobs.create(tenant, "render", {"a": 1}, once=Once(key="k"))
    with pytest.raises(IdempotencyConflict):
        jobs.create(tenant, "render", {"a": 2}, once=Once(key="k"))
    jobs.create(tenant, "fit", {"a": 2}, once=Once(key="k"))  # another kind is another request
    assert jobs.create(tenant, "render", {"b": 1, "a": 1}, once=Once(key="order"))[1]
    assert not jobs.create(tenant, "render", {"a": 1, "b": 1}, once=Once(key="order"))[1]  # key order means nothing


def test_a_fingerprint_says_what_must_be_equal(jobs, tenant):
    first, _ = jobs.create(tenant, "render", {"upload": "x"}, once=Once(key="k", fingerprint="sha"))
    again, new = jobs.create(tenant, "render", {"upload": "y"}, once=Once(key="k", fingerprint="sha"))
    assert again == first
    assert not new
    with pytest.raises(IdempotencyConflict):
        jobs.create(tenant, "render", {"upload": "x"}, once=Once(key="k", fingerprint="other"))


def test_a_key_is_one_tenants_only(state, jobs, tenant):
    other = TenantId(f"{tenant}-x")
    state.accounts.create_tenant(other)
    first, _ = jobs.create(tenant, "render", {}, once=Once(key="k"))
    second, new = jobs.create(other, "render", {}, once=Once(key="k"))
    assert new
    assert second.id != first.id
    with pytest.raises(UnknownJob):
        jobs.get(other, first.id)
    with pytest.raises(UnknownJob):
        jobs.cancel(other, first.id)
    assert [job.id for job in jobs.list(other, "render")] == [second.id]


def test_a_replayed_key_gives_the_finished_job(jobs, tenant):
    jobs.create(tenant, "render", {}, once=Once(key="k"))
    jobs.finish(jobs.claim("render", worker="w", lease_s=60, tenant=tenant), {"n": 1})
    again, new = jobs.create(tenant, "render", {}, once=Once(key="k"))
    assert not new
    assert again.result == {"n": 1}


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb"])
def test_an_unusable_key_is_refused(jobs, tenant, key):
    with pytest.raises(InputError):
        jobs.create(tenant, "render", {}, once=Once(key=key))
