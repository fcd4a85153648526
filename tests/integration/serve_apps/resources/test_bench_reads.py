"""The benches of reads ask what they say they ask, and find answers that are right."""

from __future__ import annotations

import contextlib

import pytest

from m2dao.errors import UnknownTenant
from serve_apps.bench.reads import _OTHER, _TENANT, measure_matrix, measure_reads
from serve_apps.bench.site import Site


@pytest.fixture
def site(api, tmp_path):
    yield Site(url=str(api.client.base_url), settings=api.platform.settings, platform=api.platform, folder=tmp_path)
    for tenant in (_TENANT, _OTHER):
        with contextlib.suppress(UnknownTenant):
            api.platform.state.accounts.delete_tenant(tenant)


def test_reads_of_every_kind_are_answered_and_timed(site):
    found = measure_reads(site, num_identities=3, num_renders=5, num_requests=40, say=lambda text: None)
    assert (found["requests"], found["num_identities"], found["num_renders"]) == (40, 3, 5)
    assert 0 < found["p50_ms"] <= found["p99_ms"]


def test_a_404_is_timed_for_what_is_anothers_and_for_what_is_nobodys(site):
    found = measure_matrix(site, num_requests=3, say=lambda text: None)
    assert [row["route"] for row in found["routes"]] == [
        "/v1/renders",
        "/v1/fits",
        "/v1/identities",
        "/v1/recordings",
    ]
    assert found["largest_difference"] == max(row["difference"] for row in found["routes"])
