"""A whole deployment whose services stand behind fault proxies, for tests that break one part of it.

Two homes: one runs Redis, S3 and MLflow; the other is a site that knows them as services of its own, by the addresses
of the proxies, and runs Ray and the application. So every process of the site (ingress, replicas, fit workers) meets
the same faults, and the test looks at the truth past the proxies.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from cluster.ids import TenantId
from cluster.platform import Platform
from cluster.settings import ApiSettings, RaySettings, ServeConfig, Settings
from cluster.stack.stack import Stack
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import processes_of
from tests.support.serve import register, speech
from tests.support.stack import reaching
from tests.support.tiny_identity import make_tiny_identity

WAIT_S = 60.0
LEASE_S = 4.0
TMP_MB, CACHE_MB = 64, 24
SERVICES = {"redis": "redis.url", "s3": "s3.endpoint", "mlflow": "mlflow.url"}
CONFIG = ServeConfig(
    min_replicas=2,
    max_replicas=2,
    lease_s=LEASE_S,
    render_threads=1,
    drain_s=20.0,
    max_audio_s=40.0,
    max_active_renders=20,
)
# What is in the command line, or in the title that Ray gives, of each kind of process.
TITLES = {
    "ingress": ("ray::ServeReplica:m2dao:ingress",),
    "replica": ("ray::ServeReplica:m2dao:talker",),
    "decoder": ("m2dao.contain.server",),
    "keeper": ("cluster.keeper", "ray::ServeReplica:m2dao:keeper"),  # the stack's, and the application's
}
_EXTERNAL = ("REDIS_URL", "S3_ENDPOINT", "MLFLOW_URL", "S3_ACCESS_KEY", "S3_SECRET_KEY", "KEY_PEPPER")
_names = itertools.count()


@dataclass
class Order:
    """A render that was asked for; accepted once it has an id."""

    tenant: TenantId
    seconds: float
    headers: dict[str, str]
    id: str = ""


@dataclass
class Site:
    """The deployment, and what was asked of it."""

    url: str
    home: Path
    tmp: Path
    cache: Path
    proxies: dict[str, FaultProxy]
    settings: Settings  # through the proxies, as every process of the site has them
    services: Platform  # straight to the services
    services_url: dict[str, str]  # their addresses past the proxies
    identity: Path
    mounted: bool  # whether tmp and cache are small disks of their own
    client: httpx.Client
    orders: list[Order] = field(default_factory=list)

    def new_tenant(self) -> tuple[TenantId, dict[str, str]]:
        """A tenant with the identity anna, which no replica has loaded, and the headers of its requests."""
        number = next(_names)
        tenant = TenantId(f"f{os.getpid()}-{number}")
        accounts = self.services.state.accounts
        accounts.create_tenant(tenant)
        with tempfile.TemporaryDirectory() as folder:  # its own bytes: copies on disk are found by content
            register(self.services, tenant, make_tiny_identity(Path(folder) / "anna", size=64, seed=number))
        return tenant, {"Authorization": f"Bearer {accounts.create_api_key(tenant)}"}

    def order(self, tenant: TenantId, headers: dict[str, str], *, seconds: float) -> Order:
        """Ask for a render as a careful client does: the same request again until the API says yes."""
        order = Order(tenant, seconds, {**headers, "Idempotency-Key": uuid.uuid4().hex})
        self.orders.append(order)
        self.ask_until_accepted(order)
        return order

    def ask_until_accepted(self, order: Order) -> None:
        def ask() -> bool:
            answer = self.ask(order)
            if answer is None or answer.status_code in (429, 500, 502, 503, 504):
                return False
            assert answer.status_code == 202, answer.text
            order.id = answer.json()["id"]
            return True

        until(ask, "a render to be accepted")

    def ask(self, order: Order, *, timeout_s: float = 20.0) -> httpx.Response | None:
        """Ask once; None when there was no answer."""
        files = {"audio": ("speech.wav", speech(order.seconds), "audio/wav")}
        try:
            return self.client.post(
                "/v1/renders", files=files, data={"identity": "anna"}, headers=order.headers, timeout=timeout_s
            )
        except httpx.HTTPError:
            return None

    def render(self, order: Order) -> dict[str, Any]:
        """What the API says of a render; empty when it says nothing."""
        try:
            answer = self.client.get(f"/v1/renders/{order.id}", headers=order.headers, timeout=5)
        except httpx.HTTPError:
            return {}
        return answer.json() if answer.status_code == 200 else {}

    def pids(self, kind: str) -> set[int]:
        """The processes of a kind."""
        return {
            pid
            for pid in processes_of(self.home, ["ray", "keeper"])
            if any(title in _title(pid) for title in TITLES[kind])
        }

    @contextlib.contextmanager
    def another_keeper(self) -> Iterator[None]:
        """A second keeper waits for the end of the first while the block runs."""
        log = open(self.home / "logs" / "another-keeper.log", "ab")  # noqa: SIM115
        env = {**os.environ, **self.settings.to_env()}
        with log, subprocess.Popen([sys.executable, "-m", "cluster.keeper"], env=env, stdout=log, stderr=log) as other:
            try:
                yield
            finally:
                other.terminate()

    def start_keeper(self) -> None:
        """Start the site's own keeper again."""
        env = {f"M2DAO_{name}": self.settings.to_env()[f"M2DAO_{name}"] for name in _EXTERNAL}
        plain = Settings(home=self.home, ray=RaySettings(num_cpus=4), api=self.settings.api, start_timeout_s=600)
        Stack(plain.with_env(env)).up(progress=_say)

    def working_replica(self) -> int:
        """The replica that is at a render: it has files of it open."""

        def found() -> set[int]:
            return {pid for pid in self.pids("replica") if any("/render-" in path for path in _open_files(pid))}

        return int(until(found, "a replica to be at work", pause_s=0.01).pop())


def _open_files(pid: int) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return [file.path for file in psutil.Process(pid).open_files()]
    return []


def _render_id(order: Order) -> Any:
    from cluster.ids import RenderId

    return RenderId.parse(order.id)


def _title(pid: int) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return ""


def until(condition: Callable[[], Any], what: str, *, wait_s: float = WAIT_S, pause_s: float = 0.05) -> Any:
    """Poll, because the processes that change things are not ours."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        threading.Event().wait(pause_s)
    raise AssertionError(f"not within {wait_s:g} s: {what}")


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process stands still, as on a machine that was suspended or swaps."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """The disk of a folder has no byte left."""
    ballast = folder / "ballast"
    try:
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 65536)
        yield
    finally:
        ballast.unlink()


@contextlib.contextmanager
def running_site() -> Iterator[Site]:
    """Start everything; a minute. Everything is gone afterwards."""
    with contextlib.ExitStack() as held:
        homes = [Path(tempfile.mkdtemp(prefix="m2dao-")) for _ in range(2)]
        for home in homes:
            held.callback(shutil.rmtree, home, ignore_errors=True)
        inner = Settings(home=homes[0], start_timeout_s=600)
        held.callback(Stack(inner).down)
        direct = Stack(inner).up(services=tuple(SERVICES), progress=_say, owner_pid=os.getpid())
        proxies = {name: held.enter_context(_proxy(direct, row)) for name, row in SERVICES.items()}
        settings, tmp, cache, mounted = _ray(homes[1], _behind(direct, proxies), held)
        addresses = {row.replace(".", "_"): direct.require(row) for row in SERVICES.values()}
        services = Platform(reaching(settings, **addresses))
        held.callback(services.state.close)
        url = _deploy(settings, held)
        client = held.enter_context(httpx.Client(base_url=url, timeout=20, trust_env=False))
        identity = make_tiny_identity(homes[1] / "anna", size=64)
        urls = {name: direct.require(row) for name, row in SERVICES.items()}
        yield Site(url, homes[1], tmp, cache, proxies, settings, services, urls, identity, mounted, client)


def _proxy(settings: Settings, row: str) -> FaultProxy:
    port = urlsplit(settings.require(row)).port
    assert port is not None
    return FaultProxy(port)


def _behind(direct: Settings, proxies: dict[str, FaultProxy]) -> dict[str, str]:
    """What a site is told of its services: their addresses behind the proxies, and its keys of the store."""
    env = {}
    for name, row in SERVICES.items():
        address = direct.require(row)
        env[f"M2DAO_{row.replace('.', '_').upper()}"] = address.replace(
            f":{urlsplit(address).port}", f":{proxies[name].port}"
        )
    for key in ("s3.access_key", "s3.secret_key", "key_pepper"):
        env[f"M2DAO_{key.replace('.', '_').upper()}"] = direct.require(key)
    return env


def _ray(home: Path, env: dict[str, str], held: contextlib.ExitStack) -> tuple[Settings, Path, Path, bool]:
    """Ray of the site, with small disks for what it keeps on the node."""
    tmp, cache = home / "tmp", home / "serve-cache"
    mounted = all([_mount(tmp, TMP_MB, held), _mount(cache, CACHE_MB, held)])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    plain = Settings(home=home, api=ApiSettings(port=port), ray=RaySettings(num_cpus=4), start_timeout_s=600)
    site = plain.with_env(env)
    held.callback(Stack(site).down)
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(tmp)  # what replicas and fit workers take for the temporary folder
    try:
        settings = Stack(site).up(progress=_say, owner_pid=os.getpid())
    finally:
        os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)
    return settings, tmp, cache, mounted


def _deploy(settings: Settings, held: contextlib.ExitStack) -> str:
    from serve_apps.deploy import deploy, on_ray

    held.enter_context(on_ray(settings))
    return deploy(settings, CONFIG, timeout_s=300, progress=_say)


def _mount(folder: Path, size_mb: int, held: contextlib.ExitStack) -> bool:
    """Make a folder a small disk of its own, where we may mount; otherwise a plain folder."""
    folder.mkdir(mode=0o700)
    ran = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0700", "tmpfs", str(folder)], capture_output=True
    )
    if ran.returncode == 0:
        held.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
    return ran.returncode == 0


def _say(line: str) -> None:
    print(f"[site] {line}", flush=True)
