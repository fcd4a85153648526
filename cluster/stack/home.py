"""The folder of an embedded stack: process records, ports, credentials, lock, ``stack.env``."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.environment import STACK_ENV_NAME
from cluster.settings import Settings
from cluster.stack import processes
from cluster.stack.services import LOOPBACK, PORT_NAMES, home_id, ray_temp_dir
from m2dao.errors import StackError
from m2dao.files import locked, whole_file

# Where ports are taken from: below the range that outgoing connections use, so that none is lost between the choice
# and the start of the service.
_PORT_RANGE = range(20_000, 32_000)


@dataclass(frozen=True)
class StackHome:
    """The files of one home."""

    path: Path

    @property
    def run_dir(self) -> Path:
        """Where records, plans, ports and the lock are."""
        return self.path / "run"

    @property
    def stack_env(self) -> Path:
        """What reaches the services; later commands read it."""
        return self.path / STACK_ENV_NAME

    def record_path(self, name: str) -> Path:
        """Where the record of a service's process is."""
        return self.run_dir / f"{name}.json"

    def log_path(self, name: str) -> Path:
        """Where a service's output goes."""
        return self.path / "logs" / f"{name}.log"

    def mark(self, name: str) -> str:
        """What finds the processes of a service."""
        return f"{home_id(self.path)}:{name}"

    def record(self, name: str) -> processes.ProcessRecord | None:
        """The record of a service's process; None when there is none."""
        return processes.ProcessRecord.load(self.record_path(name))

    def is_running(self, name: str) -> bool:
        """Whether any process of a service runs."""
        return bool(processes.find_members(self.mark(name), self.record(name)))

    def is_own_dashboard(self, url: str) -> bool:
        """Whether the address is that of a Ray which this home has started and which runs.

        Not every dashboard at 127.0.0.1 is: a tunnel ends there too.
        """
        parts, port = urlsplit(url), self.ports().get("ray", {}).get("dashboard")
        return parts.hostname in (LOOPBACK, "localhost") and parts.port == port and self.is_running("ray")

    def make_folders(self) -> None:
        """Make what is missing; only the owner may look into it."""
        for folder in (self.path, self.run_dir, *(self.path / name for name in ("logs", "redis", "s3", "mlflow"))):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        ray_temp_dir(self.path).mkdir(mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def exclusive(self, timeout_s: float) -> Iterator[None]:
        """One ``up`` or ``down`` of a home at a time; the lock ends with the process that holds it."""
        self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(self.run_dir / "lock", wait_s=timeout_s))
            except BlockingIOError as error:
                raise StackError(str(self.path), "no other up or down at work", "one", "wait for it") from error
            yield

    @property
    def credentials_path(self) -> Path:
        """The file of the passwords, keys and tokens that this home has made."""
        return self.path / "credentials.json"

    def credentials(self) -> dict[str, str]:
        """Passwords, keys and tokens: made once per home, so that data outlives a restart."""
        path = self.credentials_path
        known = _load_json(path)
        made = {
            "redis_password": secrets.token_hex(24),
            "s3_access_key": secrets.token_hex(10),
            "s3_secret_key": secrets.token_hex(24),
            "key_pepper": secrets.token_hex(32),
            "ray_token": secrets.token_hex(32),
        }
        if not made.keys() <= known.keys():
            known = {**made, **known}
            write_private(path, json.dumps(known, indent=2) + "\n")
        return known

    def ports(self) -> dict[str, dict[str, int]]:
        """The ports of each service, as last chosen."""
        return _load_json(self.run_dir / "ports.json")

    def choose_ports(self, names: Sequence[str]) -> dict[str, dict[str, int]]:
        """The ports of last time where they are still ours or free, else new ones."""
        last = self.ports()
        taken: set[int] = {port for name in last for port in last[name].values()}
        ports = dict(last)
        for name in names:
            record = self.record(name)
            running = record is not None and record.alive()
            old = last.get(name, {})
            known = name in last and set(old) == set(PORT_NAMES[name])  # a service may have no port at all
            keep = known and (running or all(_port_free(p) for p in old.values()))
            if not keep:
                ports[name] = {port_name: _pick_port(taken) for port_name in PORT_NAMES[name]}
        write_private(self.run_dir / "ports.json", json.dumps(ports))
        return ports

    def write_stack_env(self, settings: Settings) -> None:
        """Tell later commands what reaches the services."""
        reached, defaults = settings.to_env(serve=False), Settings().to_env()
        own = {k: v for k, v in reached.items() if k != "M2DAO_HOME" and v != defaults.get(k)}
        lines = ["# What reaches the running stack; written by m2dao-cluster up, removed by m2dao-cluster down."]
        write_private(self.stack_env, "\n".join([*lines, *(f"{k}={v}" for k, v in own.items())]) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file that only we can read, whole or not at all."""
    with whole_file(path) as partial:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        partial.write_text(text, encoding="utf-8")


def _load_json(path: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StackError(str(path), "readable JSON", str(error), "remove it") from error
    return known


def _port_free(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that just ended do not count
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _pick_port(taken: set[int]) -> int:
    for _ in range(1000):
        port = random.choice(_PORT_RANGE)
        if port not in taken and _port_free(port):
            taken.add(port)
            return port
    raise StackError("ports", f"a free one from {_PORT_RANGE.start} to {_PORT_RANGE.stop}", "none")
