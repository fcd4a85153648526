"""One deployment behind fault proxies for all cells."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.faults.site import Site
from tests.faults.start import running_site
from tests.faults.truth import scratch_of
from tests.support.stack import cancel_open_jobs


@pytest.fixture(scope="session")
def running() -> Iterator[Site]:
    with running_site() as site:
        yield site


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The deployment; whatever a failed cell leaves is removed, so that it fails no other."""
    running.orders, running.fits = [], []
    yield running
    for proxy in running.proxies.values():
        proxy.heal()
    state = running.services.state
    cancel_open_jobs(state, *{what.tenant for what in (*running.orders, *running.fits)})
    for path in scratch_of(running):
        shutil.rmtree(path, ignore_errors=True)
