"""The API over the embedded stack, its keeper's work, and clients of a tenant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from m2dao_client import Client
from tests.support.compute.keeper import keeper_beside
from tests.support.recordings import write_recording
from tests.support.serve import SMALL, Api, Customer, api_over
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
    with keeper_beside(api, tmp_path_factory.mktemp("keeper")):
        yield
