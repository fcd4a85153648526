"""The embedded stack for tests: real services, once a session, on free ports under a temporary home.

``stack`` is the settings of Valkey, SeaweedFS and MLflow. ``ray_stack`` adds the Ray head to the same stack, for tests
that need it. ``state`` and ``jobs`` are what Valkey keeps. ``tenant`` is a fresh tenant, so that tests which share the
stack do not see each other's things.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.environment import PREFIX
from cluster.ids import TenantId
from cluster.settings import RaySettings, Settings
from cluster.stack.stack import Stack
from cluster.state.jobs import Jobs
from cluster.state.store import StateStore

_LIGHT = ("redis", "s3", "mlflow")
_names = itertools.count()


def _say(line: str) -> None:
    print(f"[stack] {line}")


@pytest.fixture(scope="session")
def stack_home() -> Iterator[Path]:
    """A short path, because sockets live under it; removed with everything that runs in it."""
    home = Path(tempfile.mkdtemp(prefix="m2dao-"))
    settings = Settings(home=home)
    try:
        yield home
    finally:
        Stack(settings).down(progress=_say)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def stack(stack_home: Path) -> Settings:
    """Settings that reach Valkey, SeaweedFS and MLflow."""
    return _up(stack_home, _LIGHT)


@pytest.fixture(scope="session")
def ray_stack(stack: Settings, stack_home: Path) -> Settings:
    """The same stack with a Ray head of two cores."""
    return _up(stack_home, (*_LIGHT, "ray"))


def _up(home: Path, services: tuple[str, ...]) -> Settings:
    # The guardian stops the stack should the test session be killed.
    settings = Settings(home=home, ray=RaySettings(num_cpus=2), start_timeout_s=600)
    return Stack(settings).up(services=services, progress=_say, owner_pid=os.getpid())


@pytest.fixture(scope="module")
def state(stack: Settings) -> Iterator[StateStore]:
    """The state that the stack keeps in Valkey."""
    store = StateStore(stack)
    yield store
    cancel_open_jobs(store, *store.accounts.list_tenants())
    store.close()


@pytest.fixture
def jobs(state: StateStore) -> Jobs:
    """The jobs of all tenants."""
    return state.jobs


@pytest.fixture
def tenant(state: StateStore) -> TenantId:
    """A tenant that no other test has."""
    name = TenantId(f"t{os.getpid()}-{next(_names)}")
    state.accounts.create_tenant(name)
    return name


def cancel_open_jobs(state: StateStore, *tenants: TenantId) -> None:
    """End the open jobs of tenants, so that no dispatcher and no keeper of another test finds them."""
    for tenant in tenants:
        for kind in ("render", "fit"):
            for job in state.jobs.list(tenant, kind, limit=1000):
                if not job.finished:
                    state.jobs.cancel(tenant, job.id)


def reaching(settings: Settings, **changes: str) -> Settings:
    """The settings with some services at other addresses, as behind a fault proxy: ``redis_url=...``."""
    return settings.with_env({f"{PREFIX}{name.upper()}": value for name, value in changes.items()})


def tenant_of(state: StateStore, api_key: str) -> TenantId | None:
    """The tenant that an API key lets in, or None."""
    entry = state.accounts.key_of(api_key)
    tenant = None if entry is None else state._link.call("HGET", entry, "tenant")
    return None if tenant is None else TenantId(tenant)


COUNTED = """local real = redis
local redis = {sha1hex = real.sha1hex, call = function(...) real.call('INCR', 'steps') return real.call(...) end}
"""  # goes before a script; the key ``steps`` then counts its commands
