"""One deployment behind fault proxies for all cells."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.faults.site import Site, running_site
from tests.support.stack import cancel_open_jobs


@pytest.fixture(scope="session")
def running() -> Iterator[Site]:
    with running_site() as site:
        yield site


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The deployment; whatever a failed cell leaves is removed, so that it fails no other."""
    running.orders = []
    yield running
    for proxy in running.proxies.values():
        proxy.heal()
    state = running.services.state
    cancel_open_jobs(state, *state.accounts.list_tenants())
    for folder in running.tmp.iterdir():
        shutil.rmtree(folder, ignore_errors=True)
