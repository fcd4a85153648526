"""Outages while renders run: every accepted render is done once in the end, uncharged."""

from __future__ import annotations

import contextlib
import hashlib
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from cluster.ids import RenderId
from cluster.settings import Settings
from cluster.state.records import JobRecord
from tests.support.fault_proxy import FaultProxy
from tests.support.serve import WAIT_S, Api, Customer, Gated, api_over, renderers
from tests.support.stack import reaching
from tests.support.tiny_identity import make_tiny_identity

NUM_RENDERS = 3


@pytest.fixture(scope="module")
def api(stack):
    with api_over(stack) as api:
        yield api


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny_identity(tmp_path_factory.mktemp("identity") / "anna", size=32)


@pytest.fixture
def own(api: Api, folder) -> Customer:
    customer = api.customer()
    api.register(customer.tenant, folder)
    return customer


@pytest.fixture
def behind(stack):
    """Makes (settings, proxy) for a service that renderers reach through the proxy, and tests without it."""
    proxies = []

    def make(setting: str):
        address = stack.require(setting)
        port = urllib.parse.urlsplit(address).port
        proxy = FaultProxy(port).__enter__()
        proxies.append(proxy)
        through = address.replace(f":{port}", f":{proxy.port}")
        changes = {setting.replace(".", "_"): through, "jobs_retry_base_s": "0.01", "jobs_retry_max_s": "0.1"}
        return reaching(stack, **changes), proxy

    yield make
    for proxy in proxies:
        proxy.__exit__(None, None, None)


class Gates:
    """Loads talkers that stop in the middle of a render until ``open``."""

    def __init__(self):
        self.talkers: list[Gated] = []
        self.is_open = False

    def load(self, folder):
        self.talkers.append(Gated(folder))
        if self.is_open:
            self.open()
        return self.talkers[-1]

    def close(self) -> None:
        """A test that fails must not leave its renders waiting."""
        self.open()

    def open(self) -> None:
        self.is_open = True
        for talker in self.talkers:
            talker.go_on.set()


def jobs_of(api: Api, own: Customer) -> list[JobRecord]:
    return api.services.state.jobs.list(own.tenant, "render")


def wait_until(api: Api, own: Customer, condition: Callable[[], bool]) -> None:
    with api.services.state.events.subscribe(job=(own.tenant, RenderId.new())) as nothing:
        for _ in range(WAIT_S * 20):
            if condition():
                return
            nothing.get(0.05)
    raise AssertionError([(job.status, job.stage, job.num_put_off, job.attempt) for job in jobs_of(api, own)])


def ask(own: Customer) -> None:
    for _ in range(NUM_RENDERS):
        assert own.ask(1.0).status_code == 202


def assert_all_done_once(api: Api, own: Customer) -> None:
    wait_until(api, own, lambda: all(job.finished for job in jobs_of(api, own)))
    jobs = jobs_of(api, own)
    assert [(job.status, job.attempt) for job in jobs] == [("done", 1)] * NUM_RENDERS
    for job in jobs:
        render = own.client.get(f"/v1/renders/{job.id}").json()
        video = httpx.get(render["result"]["url"], trust_env=False).content
        assert hashlib.sha256(video).hexdigest() == render["result"]["sha256"]
    videos = [info.key for info in api.services.store.list(f"{own.tenant}/renders/") if "/video-" in info.key]
    assert len(videos) == NUM_RENDERS
    backlog = api.services.state.jobs.backlog("render", tenant=own.tenant)
    assert (backlog.num_queued, backlog.num_running, backlog.num_delayed) == (0, 0, 0)


@contextlib.contextmanager
def under_way(
    api: Api, own: Customer, service: tuple[Settings, FaultProxy], folder: Path
) -> Iterator[tuple[FaultProxy, Gates]]:
    """Renders through a proxy, the first of them held in the middle: the proxy and the gates that hold it."""
    settings, proxy = service
    gates = Gates()
    ask(own)
    with renderers(settings, folder, load=gates.load), contextlib.closing(gates):
        wait_until(api, own, lambda: bool(gates.talkers) and gates.talkers[0].reached.is_set())
        yield proxy, gates


def test_while_the_object_store_refuses_renders_wait(api, own, behind, tmp_path):
    with under_way(api, own, behind("s3.endpoint"), tmp_path) as (proxy, gates):
        proxy.refuse()
        gates.open()
        wait_until(api, own, lambda: any(job.num_put_off for job in jobs_of(api, own)))
        assert not any(job.finished for job in jobs_of(api, own))
        proxy.heal()
        assert_all_done_once(api, own)


def test_while_the_object_store_says_nothing_renders_wait(api, own, behind, tmp_path):
    with under_way(api, own, behind("s3.endpoint"), tmp_path) as (proxy, gates):
        proxy.stall()
        gates.open()
        wait_until(api, own, lambda: any(job.stage == "storing" for job in jobs_of(api, own)))
        proxy.heal()
        assert_all_done_once(api, own)


def test_while_the_state_store_refuses_renders_go_on_and_say_so_later(api, own, behind, tmp_path, caplog):
    with under_way(api, own, behind("redis.url"), tmp_path) as (proxy, gates):
        proxy.refuse()
        gates.open()
        wait_until(api, own, lambda: "an outcome waits for the store" in caplog.text)
        assert not any(job.finished for job in jobs_of(api, own))
        proxy.heal()
        assert_all_done_once(api, own)


def test_while_the_registry_refuses_renders_go_on(api, own, behind, tmp_path):
    settings, proxy = behind("mlflow.url")
    ask(own)
    proxy.refuse()
    with renderers(settings, tmp_path):
        assert_all_done_once(api, own)


def test_while_our_credentials_are_refused_renders_wait(api, own, stack, tmp_path):
    quick = {"jobs_retry_base_s": "0.01", "jobs_retry_max_s": "0.1"}
    ask(own)
    with renderers(reaching(stack, s3_secret_key="another", **quick), tmp_path / "a"):
        wait_until(api, own, lambda: any(job.num_put_off for job in jobs_of(api, own)))
    with renderers(reaching(stack, **quick), tmp_path / "b"):
        assert_all_done_once(api, own)
