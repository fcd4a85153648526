"""What the keeper shows to Prometheus."""

from __future__ import annotations

import contextlib
import random
import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.keeper import metrics_chore
from cluster.keeper.chores import make_keeper
from cluster.keeper.metrics_chore import MetricsChore
from cluster.platform import Platform
from cluster.settings import MetricsSettings
from cluster.state.problems import Problem
from cluster.telemetry.metrics import METRICS
from m2dao.errors import ConfigError

NO_FACE = Problem(code="no-face", title="nobody")
NOBODY = None  # a chore that needs no lease


@pytest.fixture
def port():
    """A free port, from where outgoing connections take none."""
    while True:
        number = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), contextlib.closing(socket.create_server(("127.0.0.1", number))):
            return number


@pytest.fixture
def chore(stack, port):
    chore = MetricsChore(Platform(stack), MetricsSettings(port=port))
    yield chore
    chore.rest()


def page(port):
    """Every sample of the page: (name, labels as a sorted tuple) -> value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    families = list(text_string_to_metric_families(text))
    return {(sample.name, *sorted(sample.labels.items())): sample.value for each in families for sample in each.samples}


def jobs(kind, place):
    return ("m2dao_jobs", ("kind", kind), ("place", place))


def test_the_page_shows_what_the_state_store_knows(chore, port, state, tenant):
    chore.do(NOBODY)
    before = page(port)
    state.jobs.create(tenant, "render", {}, cost=7.0)
    state.jobs.create(tenant, "fit", {})
    failing = state.jobs.claim("fit", worker="w", lease_s=60, tenant=tenant)
    state.jobs.heartbeat(failing, lease_s=60, stage="fit: step 3")
    chore.do(NOBODY)
    now = page(port)

    def grown(name):
        return now[name] - before.get(name, 0)

    assert grown(jobs("render", "queued")) == 1
    assert grown(jobs("fit", "running")) == 1
    assert grown(("m2dao_backlog_seconds", ("kind", "render"), ("place", "queued"))) == 7.0
    assert grown(("m2dao_fits_running", ("stage", "fit"))) == 1
    assert now["m2dao_longest_wait_seconds", ("kind", "render")] > 0
    assert now[("m2dao_keeper_working",)] == 1
    state.jobs.fail(failing, NO_FACE)
    chore.do(NOBODY)
    ended = ("m2dao_jobs_ended_total", ("code", "no-face"), ("kind", "fit"), ("outcome", "failed"))
    assert page(port)[ended] >= 1


def test_the_page_tells_maintenance(chore, port, state):
    chore.do(NOBODY)
    before = page(port)["m2dao_maintenance",]
    state.maintenance.begin()
    try:
        chore.do(NOBODY)
        assert (before, page(port)["m2dao_maintenance",]) == (0, 1)
    finally:
        state.maintenance.end()


def test_every_metric_of_the_keeper_is_on_the_page_with_its_labels(chore, port, state, tenant):
    state.jobs.create(tenant, "fit", {})
    state.jobs.claim("fit", worker="w", lease_s=60, tenant=tenant)
    chore.count_failure("ledger")
    for words in (("put_off", "fit", "x"), ("retried", "fit", "x"), ("leases_lost", "fit"), ("moves", "promote", "x")):
        state.tallies.add(*words)
    state.tallies.add("fit_ms", "prepare", num=1500)
    state.tallies.add("ended", "fit", "failed", "x")
    chore.do(NOBODY)
    shown = {(name, frozenset(label for label, _ in labels)) for name, *labels in page(port)}
    assert {(m.name, frozenset(m.labels)) for m in METRICS if m.by_keeper} == shown


def test_a_keeper_that_works_no_more_shows_no_figures(chore, port, monkeypatch):
    chore.do(NOBODY)
    monkeypatch.setattr(metrics_chore, "FRESH_S", -1.0)
    assert page(port) == {("m2dao_keeper_working",): 0.0}


def test_a_keeper_that_rests_leaves_its_port_to_the_next(chore, port, stack):
    chore.do(NOBODY)
    chore.rest()
    following = MetricsChore(Platform(stack), MetricsSettings(port=port))
    following.do(NOBODY)
    assert page(port)[("m2dao_keeper_working",)] == 1
    following.rest()


def test_without_a_port_nothing_is_shown(stack):
    chore = MetricsChore(Platform(stack), MetricsSettings())
    chore.do(NOBODY)
    assert chore._server is None


def test_a_port_that_is_taken_is_named_and_tried_again(chore, port):
    taken = contextlib.closing(socket.create_server(("127.0.0.1", port)))
    with taken, pytest.raises(ConfigError, match="M2DAO_METRICS_PORT"):
        chore.do(NOBODY)
    chore.do(NOBODY)
    assert page(port)[("m2dao_keeper_working",)] == 1


def test_a_keeper_counts_the_chores_that_fail(stack, port):
    keeper = make_keeper(stack.with_env({"M2DAO_METRICS_PORT": str(port)}))
    keeper._on_failed("ledger")
    figures = next(each for each in keeper._chores if isinstance(each, MetricsChore))
    figures.do(NOBODY)
    assert page(port)["m2dao_chores_failed_total", ("chore", "ledger")] == 1
    keeper._on_rest()
    with pytest.raises(OSError, match="refused"):
        page(port)
