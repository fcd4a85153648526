"""Starts the deployment that the cells break.

Two homes: one runs Redis, S3 and MLflow; the other is a site that knows them as services of its own, by the addresses
of the proxies, and runs Ray, a keeper and the application. What the site keeps on its node lies on two small disks.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from cluster.platform import Platform
from cluster.settings import JobSettings, RaySettings, ServeConfig, Settings
from cluster.stack.stack import Stack
from tests.faults.keeper import LEASE_S
from tests.faults.site import NUM_REPLICAS, Site
from tests.support.fault_proxy import FaultProxy
from tests.support.stack import reaching

TMP_MB, CACHE_MB = 64, 24
SERVICES = {"redis": "redis.url", "s3": "s3.endpoint", "mlflow": "mlflow.url"}
CONFIG = ServeConfig(
    min_replicas=NUM_REPLICAS,
    max_replicas=NUM_REPLICAS,
    lease_s=LEASE_S,
    render_threads=1,
    drain_s=20.0,
    max_audio_s=40.0,
    upload_disk_mb=1024,
    max_active_renders=20,
)
QUICK = JobSettings(retry_base_s=0.5, retry_max_s=2.0)
_START_S = 600


@contextlib.contextmanager
def running_site() -> Iterator[Site]:
    """Start everything; a minute. Everything is gone afterwards."""
    with contextlib.ExitStack() as held:
        homes = [Path(tempfile.mkdtemp(prefix="m2dao-")) for _ in range(2)]
        for home in homes:
            held.callback(shutil.rmtree, home, ignore_errors=True)
        inner = Stack(Settings(home=homes[0], start_timeout_s=_START_S))
        held.callback(inner.down)
        direct = inner.up(services=tuple(SERVICES), progress=_say, owner_pid=os.getpid())
        proxies = {name: held.enter_context(proxy) for name, proxy in proxies_of(direct).items()}
        tmp, cache = homes[1] / "tmp", homes[1] / "serve-cache"
        mounted = all([_mount(tmp, TMP_MB, held), _mount(cache, CACHE_MB, held)])
        settings = _ray(homes[1], tmp, behind(direct, proxies), held)
        addresses = {row.replace(".", "_"): direct.require(row) for row in SERVICES.values()}
        services = Platform(reaching(settings, **addresses))
        held.callback(services.state.close)
        client = held.enter_context(httpx.Client(timeout=20, trust_env=False))
        site = Site("", homes[1], tmp, cache, proxies, settings, services, mounted, client)
        site.start_keeper()
        site.url = _deploy(settings, held)
        client.base_url = site.url
        yield site


def proxies_of(direct: Settings, *, host: str = "127.0.0.1") -> dict[str, FaultProxy]:
    """A proxy at an address of ours for each service, not yet entered."""
    ports = {name: urlsplit(direct.require(row)).port for name, row in SERVICES.items()}
    return {name: FaultProxy(port, host=host) for name, port in ports.items() if port is not None}


def behind(direct: Settings, proxies: dict[str, FaultProxy]) -> dict[str, str]:
    """What a site is told of its services: their addresses behind the proxies, and its secrets."""
    env = {}
    for name, row in SERVICES.items():
        address = direct.require(row)
        port = urlsplit(address).port
        there = f"{proxies[name].host}:{proxies[name].port}"
        env[f"M2DAO_{row.replace('.', '_').upper()}"] = address.replace(f"127.0.0.1:{port}", there)
    for key in ("s3.access_key", "s3.secret_key", "key_pepper"):
        env[f"M2DAO_{key.replace('.', '_').upper()}"] = direct.require(key)
    return env


def _ray(home: Path, tmp: Path, env: dict[str, str], held: contextlib.ExitStack) -> Settings:
    """Start Ray, whose processes take the small disk for the temporary folder."""
    plain = Settings(home=home, ray=RaySettings(num_cpus=NUM_REPLICAS + 1), jobs=QUICK, start_timeout_s=_START_S)
    stack = Stack(plain.with_env(env))
    held.callback(stack.down)
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(tmp)
    try:
        settings = stack.up(services=(*SERVICES, "ray"), progress=_say, owner_pid=os.getpid())
    finally:
        os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)
    return settings.with_env({"M2DAO_API_PORT": str(_free_port())})


def _free_port() -> int:
    """A port that nobody listens at, below those that outgoing connections are given."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def _deploy(settings: Settings, held: contextlib.ExitStack) -> str:
    from serve_apps.deploy import deploy, on_ray

    held.enter_context(on_ray(settings))
    return deploy(settings, CONFIG, timeout_s=_START_S, progress=_say)


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
