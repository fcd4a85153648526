"""The API over the embedded stack, without Ray: real HTTP, real services, workers in this process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import itertools
import os
import threading
import wave
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from cluster.control.champions import Champions
from cluster.faults import Backoff
from cluster.ids import IdentityName, ModelRef, TenantId
from cluster.keeper.keeper import Keeper
from cluster.keeper.probe_chore import ProbeChore
from cluster.platform import Platform
from cluster.settings import MB, ServeConfig, Settings
from cluster.state.people.principals import Scope
from cluster.state.records import Claim
from cluster.state.store import StateStore
from m2dao.errors import StorageUnavailable
from m2dao.identity.renderers import probe
from m2dao.identity.talker import Talker
from serve_apps.api.ingress import create_api
from serve_apps.api.services import Services, make_services
from serve_apps.identities.node_cache import NodeCache
from serve_apps.identities.source import IdentitySource, load_talker
from serve_apps.identities.talker_cache import TalkerCache
from serve_apps.rendering.breaker import Breaker
from serve_apps.rendering.dispatcher import Dispatcher
from serve_apps.rendering.health import Health
from serve_apps.rendering.load import Load
from serve_apps.rendering.pool import RenderPool
from serve_apps.rendering.probe import fault_of_version
from serve_apps.rendering.worker import RenderWorker, Watchers
from serve_apps.tickets import SERVED, RenderTicket
from tests.support.http_server import serving
from tests.support.stack import cancel_open_jobs, reaching

_names = itertools.count()
load_on_cpu = functools.partial(load_talker, backend="cpu")
WAIT_S = 120
SMALL = ServeConfig(
    max_upload_mb=1,
    max_audio_s=20,
    max_image_pixels=100_000,
    max_active_renders=4,
    lease_s=20,
    request_burst=1_000_000,  # tests ask more often than people
)


def speech(seconds: float, *, pitch: float = 0.05) -> bytes:
    """A WAV file of a tone that comes and goes."""
    samples = np.arange(round(16_000 * seconds))
    tone = 0.5 * np.sin(samples * pitch) * np.sin(samples * 0.0006) ** 2
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((tone * 32767).astype("<i2").tobytes())
    return data.getvalue()


@dataclass(frozen=True)
class Customer:
    """A tenant with an API key and a client that sends it."""

    tenant: TenantId
    key: str
    client: httpx.Client

    def ask(self, seconds: float = 1.0, *, headers: dict | None = None, audio: bytes | None = None, **form: str):
        """POST /v1/renders; ``form`` holds the text fields."""
        return self.client.post(
            "/v1/renders",
            files={"audio": ("speech.wav", speech(seconds) if audio is None else audio, "audio/wav")},
            data={"identity": "anna", **form},
            headers=headers or {},
        )


def new_customer(state: StateStore, url: httpx.URL | str) -> Customer:
    """A tenant that nothing else has."""
    tenant = TenantId(f"s{os.getpid()}-{next(_names)}")
    state.accounts.create_tenant(tenant)
    key = state.accounts.create_api_key(tenant, scopes=tuple(Scope))
    client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120, trust_env=False)
    return Customer(tenant, key, client)


@dataclass(frozen=True)
class Api:
    """The API as a test sees it."""

    platform: Platform
    services: Services
    client: httpx.Client
    resources: contextlib.ExitStack

    def customer(self) -> Customer:
        """A new tenant; its client is closed with the API."""
        customer = new_customer(self.services.state, self.client.base_url)
        self.resources.callback(customer.client.close)
        self.resources.callback(cancel_open_jobs, self.services.state, customer.tenant)
        return customer

    def register(self, tenant: TenantId, folder: Path, *, name: str = "anna", promote: bool = True) -> ModelRef:
        """Register an identity folder as the next version."""
        return register(self.platform, tenant, folder, name=name, promote=promote)


def register(
    platform: Platform, tenant: TenantId, folder: Path, *, name: str = "anna", promote: bool = True
) -> ModelRef:
    """Register an identity folder as the next version and make it the champion."""
    metrics = {"psnr_db": 30.0}
    ref = platform.registry.register_version(tenant, IdentityName(name), folder, metrics=metrics, tags={})
    if promote:
        Champions(platform.state).move(ref)
    return ref


@contextlib.contextmanager
def api_over(settings: Settings, config: ServeConfig = SMALL) -> Iterator[Api]:
    """Serve the API with all that an ingress has but the dispatcher. What is put off waits briefly."""
    settings = reaching(settings, jobs_retry_base_s="0.01", jobs_retry_max_s="0.1")
    platform, services = Platform(settings), make_services(settings, config)
    services.state.champions.set_imported()  # the stack of the tests began empty
    try:
        with contextlib.ExitStack() as resources, serving(create_api(services)) as client:
            yield Api(platform, services, client, resources)
    finally:
        services.decoder.close()
        services.state.close()
        platform.state.close()


def make_worker(
    services: Services,
    disk: Path,
    *,
    lease_s: float = 20.0,
    budget_bytes: int = 500 * MB,
    load=load_on_cpu,
    name: str = "test",
    serves=SERVED,
) -> tuple[RenderWorker, TalkerCache]:
    """A worker as a replica has it, and its cache."""
    source = IdentitySource(
        versions=services.state.versions,
        store=services.store,
        disk=NodeCache(disk, byte_budget=1000 * MB),
        load_talker=load,
    )
    talkers = TalkerCache(source.prepare, byte_budget=budget_bytes)
    config = ServeConfig(lease_s=lease_s)
    worker = RenderWorker(
        jobs=services.state.jobs,
        store=services.store,
        talkers=talkers,
        config=config,
        watchers=Watchers(load=Load(), health=Health(functools.partial(probe, "cpu"))),
        name=name,
        backoff=Backoff(base_s=0.01, max_s=0.1),
        serves=serves,
    )
    return worker, talkers


def take(services: Services, tenant: TenantId, *, lease_s: float = 20.0) -> Claim:
    """Claim the tenant's next render, as a dispatcher does."""
    claim = services.state.jobs.claim("render", worker="test", lease_s=lease_s, tenant=tenant)
    assert claim is not None
    return claim


def ticket_of(claim: Claim) -> RenderTicket:
    return RenderTicket.of(claim)


def do(worker: RenderWorker, claim: Claim) -> str:
    """Let the worker do a claimed render."""
    return worker.run(ticket_of(claim), claim.job.request["ref"])


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict:
    """The answer is a problem document; returns it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["type"], problem["status"]) == (f"urn:m2dao:problem:{code}", status)
    return problem


def stored(api: Api, tenant: TenantId) -> set[str]:
    """The tenant's renders that have files: in the object store, or kept with the job."""
    with_the_job = {name.rpartition(":")[2] for name in api.platform.state._link.scan(f"{tenant}:files:*")}
    return with_the_job | {info.key.split("/")[2] for info in api.services.store.list(f"{tenant}/renders/")}


@contextlib.contextmanager
def probing(platform: Platform, disk: Path) -> Iterator[None]:
    """A keeper that answers probes, in a thread of the test: versions are loaded and rendered for real."""
    source = IdentitySource(
        versions=platform.state.versions,
        store=platform.store,
        disk=NodeCache(disk, byte_budget=1000 * MB),
        load_talker=load_on_cpu,
    )
    chore = ProbeChore(platform, probe=functools.partial(fault_of_version, source), replicas_s=0.0)
    stop = threading.Event()
    thread = threading.Thread(target=Keeper(platform.state.seats, [chore]).run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Gated:
    """A talker whose render stops before a frame until a test lets it go on."""

    def __init__(self, folder: Path, stop_before: int = 5):
        self._talker = Talker.load(folder)
        self._stop_before = stop_before
        self.size, self.frame_rate, self.num_bytes = self._talker.size, self._talker.frame_rate, self._talker.num_bytes
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.closed = threading.Event()

    def frames(self, waveform, *, background=None):
        try:
            for index, frame in enumerate(self._talker.frames(waveform, background=background)):
                if index == self._stop_before:
                    self.reached.set()
                    assert self.go_on.wait(WAIT_S)
                yield frame
        finally:
            self.closed.set()


@contextlib.contextmanager
def renderers(
    settings: Settings, disk: Path, *, config: ServeConfig = SMALL, concurrency: int = 2, load=load_on_cpu
) -> Iterator[RenderPool]:
    """Claim and do renders until the end of the block."""
    services = make_services(settings, config)
    quick = Backoff(base_s=0.01, max_s=0.1)
    worker, _ = make_worker(services, disk, lease_s=config.lease_s, load=load)
    pool = RenderPool(worker, concurrency=concurrency)

    async def send(ref: ModelRef, ticket: RenderTicket) -> AsyncGenerator[str, None]:
        async with contextlib.aclosing(pool.words(ticket, str(ref))) as words:
            async for word in words:
                yield word

    async def main() -> None:
        dispatcher = Dispatcher(
            jobs=services.state.jobs,
            send=send,
            config=config,
            worker="dispatcher",
            breaker=Breaker({StorageUnavailable.code: services.store.check}, quick),
        )
        dispatcher.start()
        ready.set_result(asyncio.get_running_loop())
        await over.wait()
        await dispatcher.stop()

    over: asyncio.Event = asyncio.Event()
    ready: Future[asyncio.AbstractEventLoop] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(main()), name="dispatcher")
    thread.start()
    try:
        yield pool
    finally:
        ready.result(WAIT_S).call_soon_threadsafe(over.set)
        thread.join(WAIT_S)
        pool.stop(WAIT_S)
        services.state.close()
