"""A service of one's own for a bench: the embedded stack and the application, in a temporary home."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.control.champions import Champions
from cluster.environment import PREFIX
from cluster.ids import IdentityName, ModelRef, TenantId
from cluster.platform import Platform
from cluster.settings import ApiSettings, ServeConfig, Settings
from cluster.stack import processes
from cluster.stack.home import StackHome
from cluster.stack.services import SERVICES, ray_temp_dir
from cluster.stack.stack import Stack
from m2dao.errors import ServiceError
from serve_apps.bench.client import ApiClient

Say = Callable[[str], None]
IDENTITY = IdentityName("anna")
_DEPLOY_TIMEOUT_S = 300
_START_TIMEOUT_S = 300
_REPLICA = "ServeReplica:m2dao:talker"  # in the title that Ray gives a replica's process


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running service, and everything behind it."""

    url: str
    settings: Settings
    platform: Platform
    folder: Path  # for files of the bench

    def new_tenant(self, name: str, identity: Path | None = None) -> ApiClient:
        """A client of a new tenant, with ``identity`` as its champion where there is one."""
        tenant = TenantId(name)
        accounts = self.platform.state.accounts
        accounts.create_tenant(tenant)
        if identity is not None:
            self.promote(self.register(name, identity))
        return ApiClient(self.url, accounts.create_api_key(tenant), str(IDENTITY))

    def register(self, tenant: str, identity: Path, *, name: IdentityName = IDENTITY) -> ModelRef:
        """Register an identity folder as the next version of ``name``."""
        return self.platform.registry.register_version(TenantId(tenant), name, identity, metrics={}, tags={})

    def promote(self, ref: ModelRef) -> None:
        """Make a version the champion."""
        Champions(self.platform.state).move(ref)

    def prove(self, ref: ModelRef) -> None:
        """What a promotion waits for: a replica has the version warm and has rendered a frame of it."""
        Champions(self.platform.state).prove(ref)

    def replica_pids(self) -> list[int]:
        """The processes of the renderer replicas."""
        home = StackHome(self.settings.home)
        members = processes.find_members(home.mark("ray"), home.record("ray"))
        return [process.pid for process in members if processes.title_of(process).startswith(f"ray::{_REPLICA}")]

    def stop_service(self, name: str) -> Stack:
        """Stop one service of the stack; returns the stack, whose ``up`` starts it again."""
        # What the stack did not start it leaves alone, so it must not know that these settings reach its services.
        stack = Stack(Settings(home=self.settings.home, start_timeout_s=self.settings.start_timeout_s))
        stack.stop_service(name)
        return stack

    @contextlib.contextmanager
    def away(self, name: str, *, say: Say = lambda line: None) -> Iterator[None]:
        """One service of the stack refuses connections; afterwards it runs again."""
        stack = self.stop_service(name)
        try:
            yield
        finally:
            stack.up(progress=say)  # those that run are left alone

    def environment(self) -> dict[str, str]:
        """What a command of ours needs to work on this service and on no other."""
        others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return {**others, **self.settings.to_env()}

    def command(self, *words: str, timeout_s: float = 600.0) -> str:
        """Run ``python -m`` with these words on this service; returns what it printed.

        Raises:
            ServiceError: it failed; says its last words.
        """
        ran = subprocess.run(
            [sys.executable, "-m", *words], env=self.environment(), capture_output=True, text=True, timeout=timeout_s
        )
        if ran.returncode:
            raise ServiceError(" ".join(words[:2]), "to succeed", ran.stderr[-2000:] or str(ran.returncode))
        return ran.stdout


@contextlib.contextmanager
def own_site(config: ServeConfig, *, say: Say, with_api: bool = True) -> Iterator[Site]:
    """Start a stack and the application in a temporary home; everything is gone afterwards.

    Args:
        config: of the application.
        say: takes what happens, line by line.
        with_api: whether the application is needed; its replicas hold cores.
    """
    began = time.monotonic()
    with own_stack(config, say=say) as (reached, _):
        folder = reached.home / "bench"
        folder.mkdir()
        url = f"http://{reached.api.host}:{reached.api.port}"
        site = Site(url=url, settings=reached, platform=Platform(reached), folder=folder)
        if with_api:
            site.command("serve_apps.cli", "deploy", "--timeout-s", str(_DEPLOY_TIMEOUT_S))
        say(f"the service is ready at {url} after {time.monotonic() - began:.0f} s; {_load()}")
        yield site


@contextlib.contextmanager
def own_stack(config: ServeConfig, *, say: Say, services: Sequence[str] = SERVICES) -> Iterator[tuple[Settings, Stack]]:
    """Start services of the stack in a temporary home; the settings that reach them, and the stack."""
    home = Path(tempfile.mkdtemp(prefix="m2dao-bench-"))
    settings = Settings(home=home, api=ApiSettings(port=_free_port()), serve=config, start_timeout_s=_START_TIMEOUT_S)
    stack = Stack(settings)
    try:
        yield stack.up(services=services, progress=say, owner_pid=os.getpid()), stack
    except Exception:
        kept = Path(tempfile.mkdtemp(prefix="m2dao-bench-logs-"))
        for logs in (home / "logs", ray_temp_dir(home) / "session_latest" / "logs"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copytree(logs, kept, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        say(f"what the services said is kept in {kept}")
        raise
    finally:
        say(_load())
        stack.down(progress=say)
        shutil.rmtree(home, ignore_errors=True)


def _load() -> str:
    return f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f}"


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
