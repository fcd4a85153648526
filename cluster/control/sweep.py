"""Deletes sound and videos of renders whose job records have ended.

Redis forgets a job by itself a week after its end; the object store does not. A rule of the store's own cannot do it,
because rules go by prefix and every key begins with its tenant.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cluster.ids import TenantId
from cluster.object_keys import object_key
from cluster.state.jobs import RETENTION_S, Jobs
from cluster.state.store import StateStore
from cluster.storage import ObjectStore
from m2dao.errors import ConfigError

RENDERS = "renders"
MIN_DAYS = RETENTION_S / (24 * 3600)  # how long the record of a job is kept, which may still lead to its video


def sweep_renders(jobs: Jobs, store: ObjectStore, tenant: TenantId, *, days: float, now: datetime | None = None) -> int:
    """Delete what ended renders stored more than ``days`` ago; returns how many objects.

    Args:
        now: the time to go by; the clock's when not given.

    Raises:
        ConfigError: fewer days than job records are kept.
    """
    if not days >= MIN_DAYS:
        raise ConfigError("--days", f"at least {MIN_DAYS:g}, for which job records are kept", f"{days:g}")
    before = (now or datetime.now(UTC)) - timedelta(days=days)
    needed = {str(job.id) for job in jobs.open("render") if job.tenant == tenant}  # one may wait for very long
    prefix = object_key(tenant, RENDERS) + "/"
    old = [info.key for info in store.list(prefix) if info.modified < before]
    old = [key for key in old if key.removeprefix(prefix).partition("/")[0] not in needed]
    for key in old:
        store.delete(key)
    return len(old)


def sweep_all_renders(state: StateStore, store: ObjectStore, *, days: float) -> dict[TenantId, int]:
    """``sweep_renders`` for every tenant; returns how many objects each had."""
    return {tenant: sweep_renders(state.jobs, store, tenant, days=days) for tenant in state.accounts.list_tenants()}
