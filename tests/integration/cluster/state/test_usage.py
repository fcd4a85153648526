"""What tenants used is counted once, with the step that made it true."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cluster.ids import IdentityName, ModelRef, TenantId
from cluster.keeper.usage_chore import UsageChore
from cluster.platform import Platform
from cluster.state.problems import Problem
from cluster.state.resources.recordings import RoomFor
from cluster.state.resources.usage import UsageRow, number_of, today
from cluster.state.store import StateStore
from cluster.state.versions import VersionFacts
from m2dao.errors import LeaseLost

ANNA, BEN = IdentityName("anna"), IdentityName("ben")
DAY_US = 86_400 * 10**6
MB = 10**6


def rows(state: StateStore, tenant: TenantId, **more) -> list[UsageRow]:
    """All rows; a day on either side, for the day may end while a test runs."""
    day = timedelta(days=1)
    return state.usage.page(tenant, today() - 9 * day, today() + day, **more)[0]


def total(state: StateStore, tenant: TenantId, what: str, identity: IdentityName | None = ANNA) -> float:
    return sum(getattr(row, what) for row in rows(state, tenant) if row.identity == identity)


def claimed(state: StateStore, tenant: TenantId, kind: str, request: dict, **more):
    job, _ = state.jobs.create(tenant, kind, request, **more)
    claim = state.jobs.claim(kind, worker="w", lease_s=60, tenant=tenant, job_id=job.id)
    assert claim is not None
    return claim


def render(state: StateStore, tenant: TenantId, seconds: float = 2.5, name: str = "anna"):
    return claimed(state, tenant, "render", {"ref": f"{tenant}.{name}@3"}, cost=seconds)


def test_a_done_render_counts_once_however_often_its_end_is_told(state, tenant):
    claim = render(state, tenant)
    for _ in range(3):
        state.jobs.finish(claim, {})
    assert total(state, tenant, "num_renders") == 1
    assert total(state, tenant, "rendered_s") == 2.5


def test_a_render_that_two_workers_had_counts_for_the_one_that_ended_it(state, tenant):
    slow = render(state, tenant)
    state._link.call("ZADD", f"{tenant}:leases:render", 1, str(slow.job.id))
    state.jobs.requeue_expired("render")
    quick = state.jobs.claim("render", worker="other", lease_s=60, tenant=tenant, job_id=slow.job.id)
    state.jobs.finish(quick, {})
    with pytest.raises(LeaseLost):
        state.jobs.finish(slow, {})
    assert total(state, tenant, "rendered_s") == 2.5


@pytest.mark.parametrize("how", ["fail", "retry", "release", "put off", "cancel"])
def test_what_was_not_done_is_not_counted(state, tenant, how):
    claim, problem = render(state, tenant), Problem(code="x")
    match how:
        case "release":
            state.jobs.release(claim)
        case "put off":
            state.jobs.put_off(claim, problem, most=3)
        case "cancel":
            state.jobs.cancel(tenant, claim.job.id)
        case _:
            state.jobs.fail(claim, problem, retry=how == "retry")
    assert rows(state, tenant) == []


def test_a_fit_counts_the_time_of_the_worker_that_made_the_version(state, tenant):
    claim = claimed(state, tenant, "fit", {"identity": "anna"})
    begun = int(state._link.call("HGET", f"{tenant}:job:{claim.job.id}", "begun"))
    state._link.call("HSET", f"{tenant}:job:{claim.job.id}", "begun", begun - 90 * 10**6)
    state.jobs.finish(claim, {})
    assert total(state, tenant, "num_fits") == 1
    assert total(state, tenant, "fitted_s") >= 90
    assert (
        total(state, tenant, "fitted_s") <= 90 + (state.jobs.get(tenant, claim.job.id).updated_s - begun / 1e6) + 1e-3
    )


def stored(state: StateStore, tenant: TenantId, name: IdentityName, number: int, num_bytes: int) -> ModelRef:
    ref = ModelRef(tenant, name, number)
    state.versions.commit(ref, VersionFacts(files_sha256="a" * 64, num_bytes=num_bytes))
    return ref


def since(state: StateStore, tenant: TenantId, name: str, days_ago: float) -> None:
    """As if what is stored had been there since some time."""
    at = round((number_of(today()) - days_ago) * DAY_US)
    state._link.call("HSET", f"{tenant}:stored-since", name, at)


def test_storage_counts_for_each_day_with_what_was_stored_on_it(state, tenant):
    stored(state, tenant, ANNA, 1, 3 * MB)
    since(state, tenant, "anna", 2.5)
    for _ in range(3):
        state.usage.count_storage(tenant, today())
    found = {(today() - row.day).days: row.stored_mb_days for row in rows(state, tenant) if row.day < today()}
    assert found == {3: 1.5, 2: 3.0, 1: 3.0}


def test_storage_counts_up_to_every_change(state, tenant):
    first = stored(state, tenant, ANNA, 1, 1 * MB)
    since(state, tenant, "anna", 4)
    stored(state, tenant, ANNA, 2, 10 * MB)  # what is new was not there before
    assert 4.0 <= total(state, tenant, "stored_mb_days") < 5.01
    since(state, tenant, "anna", 2)
    state.versions.forget(first)
    assert 4 + 22.0 <= total(state, tenant, "stored_mb_days") < 4 + 22 + 1 + 11.01
    state.versions.forget(ModelRef(tenant, ANNA, 2))
    assert not state._link.call("HEXISTS", f"{tenant}:stored-since", "anna")


def test_recordings_count_from_the_reservation_until_they_are_forgotten(state, tenant):
    room = RoomFor(num_bytes=100 * MB, num_uploads=2, upload_s=60)
    record = state.recordings.create(tenant, name="a", num_bytes=8 * MB, sha256="a" * 64, room=room)
    since(state, tenant, "", 1)
    record = state.recordings.to_deleting(record)
    state.recordings.forget(record)
    counted = total(state, tenant, "stored_mb_days", identity=None)
    assert 8.0 <= counted < 16.01
    since(state, tenant, "", 1)
    state.usage.count_storage(tenant, today())
    assert total(state, tenant, "stored_mb_days", identity=None) == counted


def test_rows_come_in_pages_by_day_and_identity(state, tenant):
    for name in ("anna", "ben", "carl"):
        state.jobs.finish(render(state, tenant, name=name), {})
    stored(state, tenant, ANNA, 1, MB)
    since(state, tenant, "anna", 3)
    state.usage.count_storage(tenant, today())
    whole, seen, after = rows(state, tenant), [], ""
    while after is not None:
        day = timedelta(days=1)
        page, after = state.usage.page(tenant, today() - 9 * day, today() + day, after=after, limit=2)
        seen += page
    assert seen == whole
    assert [row.day for row in whole] == sorted(row.day for row in whole)
    assert {row.identity for row in rows(state, tenant, identity=BEN)} == {BEN}
    assert len(rows(state, tenant, identity=ANNA)) == 4


def test_the_keeper_counts_each_day_and_forgets_what_is_old(stack, state, tenant):
    class Holding:
        def check(self) -> None: ...

    stored(state, tenant, ANNA, 1, MB)
    since(state, tenant, "anna", 3)
    chore = UsageChore(Platform(stack.with_env({"M2DAO_USAGE_KEEP_DAYS": "2"})))
    for _ in range(2):
        chore.do(Holding())
    assert [(today() - row.day).days for row in rows(state, tenant) if row.day < today()] == [2, 1]
    assert [name for name in state._link.scan(f"{tenant}:usage:*") if name.endswith(str(number_of(today()) - 3))] == []
