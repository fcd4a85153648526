"""The processes of an embedded stack, and where they listen."""

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
