"""Processes of an embedded stack and where they listen, and contained processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import psutil

from cluster.stack import processes
from cluster.stack.home import StackHome
from cluster.stack.services import SERVICES

LOOPBACK_ADDRESSES = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def processes_of(home: Path, names: Iterable[str] = (*SERVICES, "guardian")) -> set[int]:
    stack = StackHome(home)
    members = (processes.find_members(stack.mark(name), stack.record(name)) for name in names)
    return {process.pid for group in members for process in group}


def listening_addresses(pids: Iterable[int]) -> set[str]:
    """Local addresses of the listening TCP sockets of these processes."""
    addresses = set()
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            sockets = psutil.Process(pid).net_connections("tcp")
            addresses |= {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
    return addresses


def process_at_work(server: int) -> psutil.Process:
    """The contained process that makes a call now.

    Those that wait for a call have not shut themselves in yet.
    """
    found = []
    for process in psutil.Process(server).children(recursive=True):
        with contextlib.suppress(OSError, psutil.Error):
            if _num_filters(process.pid) > _num_filters(server):
                found.append(process)
    return max(found, key=lambda process: (process.create_time(), process.pid))  # an earlier one may still be dying


def _num_filters(pid: int) -> int:
    """How many seccomp filters a process has."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(dict(line.split(":\t", 1) for line in lines)["Seccomp_filters"])
