"""The API over the embedded stack, its keeper's work, and clients of a tenant."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.keeper.keeper import Keeper
from cluster.keeper.probe_chore import ProbeChore
from cluster.keeper.recordings_chore import RecordingsChore
from cluster.settings import MB
from m2dao_client import Client
from serve_apps.identities.node_cache import NodeCache
from serve_apps.identities.source import IdentitySource
from serve_apps.recordings.look import look_into
from serve_apps.rendering.probe import fault_of_version
from tests.support.recordings import write_recording
from tests.support.serve import SMALL, Api, Customer, api_over, load_on_cpu
from tests.support.stack import reaching
from tests.support.tiny_identity import make_tiny_identity


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """The SDK asks this machine, also where a proxy is set for others."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def api(stack) -> Iterator[Api]:
    with api_over(reaching(stack, recordings_part_mb="6"), SMALL) as api:
        yield api


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_tiny_identity(tmp_path_factory.mktemp("identity") / "anna", size=32)


@pytest.fixture
def own(api: Api, folder: Path) -> Customer:
    """A tenant with the identity anna."""
    customer = api.customer()
    api.register(customer.tenant, folder)
    return customer


@pytest.fixture
def sdk(own: Customer) -> Iterator[Client]:
    with Client(str(own.client.base_url), own.key) as client:
        yield client


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_recording(tmp_path_factory.mktemp("video") / "anna.mp4", seconds=1.0)


@pytest.fixture(scope="module")
def keeper(api: Api, tmp_path_factory) -> Iterator[None]:
    """A keeper that looks into recordings and probes versions as long as the tests run."""

    def look(record):
        folder = tmp_path_factory.mktemp("look")
        folder.chmod(0o700)
        return look_into(api.platform, record, folder)

    source = IdentitySource(
        versions=api.platform.state.versions,
        store=api.platform.store,
        disk=NodeCache(tmp_path_factory.mktemp("disk"), byte_budget=1000 * MB),
        load_talker=load_on_cpu,
    )
    probe = functools.partial(fault_of_version, source)
    chores = [RecordingsChore(api.platform, look=look), ProbeChore(api.platform, probe=probe, replicas_s=0.0)]
    stop = threading.Event()
    thread = threading.Thread(target=Keeper(api.platform.state.seats, chores).run, args=(stop,))
    thread.start()
    yield
    stop.set()
    thread.join()
