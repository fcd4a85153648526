"""Old videos go, everything else stays."""

from datetime import UTC, datetime, timedelta

import pytest

from cluster.control.sweep import sweep_renders
from cluster.ids import TenantId
from cluster.object_keys import object_key
from cluster.storage import ObjectStore
from m2dao.errors import ConfigError


def test_only_old_renders_of_the_tenant_are_deleted(stack, state, tenant):
    store = ObjectStore(stack)
    old = [object_key(tenant, "renders", "r-1", "video.mp4"), object_key(tenant, "renders", "r-1", "audio.wav")]
    kept = [
        object_key(tenant, "identities", "anna", "1"),
        object_key(TenantId(f"{tenant}-b"), "renders", "r-2", "video.mp4"),
    ]
    for key in old + kept:
        store.put_bytes(key, b"x")
    now = datetime.now(UTC)
    assert sweep_renders(state.jobs, store, tenant, days=8, now=now + timedelta(days=7.9)) == 0
    assert sweep_renders(state.jobs, store, tenant, days=8, now=now + timedelta(days=8.1)) == 2
    assert [store.exists(key) for key in old + kept] == [False, False, True, True]


def test_what_a_job_record_may_still_lead_to_is_not_deleted(stack, state, tenant):
    with pytest.raises(ConfigError, match="at least 7"):
        sweep_renders(state.jobs, ObjectStore(stack), tenant, days=1)


def test_the_speech_of_a_render_that_still_waits_stays_however_old_it_is(stack, state, tenant):
    store = ObjectStore(stack)
    job, _ = state.jobs.create(tenant, "render", {})
    key = object_key(tenant, "renders", str(job.id), "speech.wav")
    store.put_bytes(key, b"x")
    now = datetime.now(UTC) + timedelta(days=30)
    assert sweep_renders(state.jobs, store, tenant, days=8, now=now) == 0
    state.jobs.cancel(tenant, job.id)
    assert sweep_renders(state.jobs, store, tenant, days=8, now=now) == 1
