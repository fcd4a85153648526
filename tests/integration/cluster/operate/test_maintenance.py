"""Maintenance: nothing new is accepted, and an operator learns when the rest is done."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit, urlunsplit

import pytest

from cluster.cli import main
from cluster.control.fit_requests import FitOptions
from cluster.control.fits import FitService
from cluster.ids import TenantId
from cluster.operate.drain import drain, open_work
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.state.new_jobs import Once
from cluster.state.store import StateStore
from m2dao.errors import ServiceError, UnderMaintenance
from tests.support.fits import Fits
from tests.support.stack import reaching

ACME = TenantId("acme")


@pytest.fixture
def settings(stack) -> Settings:
    """A database of its own: the switch is for everybody."""
    parts = urlsplit(stack.require("redis.url"))
    return reaching(stack, redis_url=urlunsplit(parts._replace(path="/8")))


@pytest.fixture
def alone(settings) -> Iterator[StateStore]:
    store = StateStore(settings)
    store._link.call("FLUSHDB")
    store.accounts.create_tenant(ACME)
    yield store
    store._link.call("FLUSHDB")
    store.close()


@pytest.fixture
def command(settings, alone, monkeypatch, capsys):
    """Runs ``m2dao-cluster`` on these settings; returns exit code and answer."""
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> tuple[int, dict]:
        code = main([*words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def take(state: StateStore, kind: str):
    return state.jobs.claim(kind, worker="w", lease_s=60)


@pytest.mark.parametrize("kind", ["render", "fit"])
def test_nothing_new_is_accepted_and_what_was_accepted_is_finished_and_read(alone, kind):
    once = Once(key="mine")
    running, _ = alone.jobs.create(ACME, kind, {}, once=once)
    claim = take(alone, kind)
    queued, _ = alone.jobs.create(ACME, kind, {"number": 2})
    notice = alone.maintenance.begin("a new disk")
    with pytest.raises(UnderMaintenance):
        alone.jobs.create(ACME, kind, {"number": 3})
    assert alone.jobs.create(ACME, kind, {}, once=once) == (alone.jobs.get(ACME, running.id), False)
    assert {job.id for job in alone.jobs.list(ACME, kind)} == {running.id, queued.id}
    assert alone.jobs.finish(claim, {}).status == "done"
    assert take(alone, kind).job.id == queued.id
    assert alone.maintenance.begin("another reason") == notice
    assert alone.maintenance.end()
    assert not alone.maintenance.end()
    assert alone.jobs.create(ACME, kind, {"number": 3})[1]


def test_a_creation_that_races_the_switch_is_an_open_job_or_was_refused(alone):
    begun, accepted = threading.Barrier(5), []

    def create_until_refused() -> None:
        begun.wait(60)
        while True:
            try:
                accepted.append(alone.jobs.create(ACME, "render", {})[0].id)
            except UnderMaintenance:
                return

    with ThreadPoolExecutor(4) as pool:
        threads = [pool.submit(create_until_refused) for _ in range(4)]
        begun.wait(60)
        alone.maintenance.begin()
        (seen,) = (each.num_open for each in open_work(alone.jobs) if each.kind == "render")
        for thread in threads:
            thread.result(60)
    assert alone.jobs.backlog("render").num_queued == seen == len(accepted)


def test_no_recording_is_uploaded_for_a_fit_that_is_refused(settings, alone, tmp_path):
    platform = Platform(settings, state=alone)
    fits = Fits(platform, ACME, tmp_path)
    before = len(list(platform.store.list(f"{ACME}/")))
    alone.maintenance.begin()
    with pytest.raises(UnderMaintenance):
        FitService(state=alone, store=platform.store).submit(ACME, [fits.recording("anna")], FitOptions())
    assert len(list(platform.store.list(f"{ACME}/"))) == before


def test_an_operator_sees_the_work_become_less_until_none_is_left(alone):
    alone.jobs.create(ACME, "render", {})
    alone.jobs.create(ACME, "fit", {})
    alone.maintenance.begin()
    kinds = iter(["fit", "render"])

    def finish_one(seconds: float) -> None:
        alone.jobs.finish(take(alone, next(kinds)), {})

    looks = [[each.num_open for each in work] for work in drain(alone.jobs, sleep=finish_one)]
    assert looks == [[1, 1], [1, 0], [0, 0]]


def test_a_drain_with_a_limit_says_what_is_left(alone):
    alone.jobs.create(ACME, "render", {})
    with pytest.raises(ServiceError, match="got 1"):
        list(drain(alone.jobs, limit_s=0))


def test_a_limit_without_a_wait_is_refused_and_switches_nothing(command, alone):
    for name in ("on", "status"):
        code, answer = command("maintenance", name, "--limit-s", "5")
        assert (code, answer["error"]) == (2, "invalid-config")
    assert alone.maintenance.notice() is None


def test_the_commands_switch_and_tell(command, alone):
    alone.jobs.create(ACME, "render", {})
    assert command("maintenance", "status")[1]["on"] is False
    code, answer = command("maintenance", "on", "--reason", "a new disk")
    assert (code, answer["on"], answer["reason"], answer["drained"]) == (0, True, "a new disk", False)
    assert answer["open"]["render"] == {"num_queued": 1, "num_running": 0, "num_delayed": 0}
    code, answer = command("maintenance", "status", "--wait", "--limit-s", "0")
    assert (code, answer["error"]) == (1, "service-error")
    alone.jobs.finish(take(alone, "render"), {})
    code, answer = command("maintenance", "status", "--wait")
    assert (code, answer["on"], answer["drained"]) == (0, True, True)
    assert command("maintenance", "off") == (0, {"on": False, "was_on": True})
    assert alone.jobs.create(ACME, "render", {})[1]
