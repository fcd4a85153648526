"""The processes of an embedded stack, and where they listen."""

import contextlib
import os
from pathlib import Path

from cluster.settings import Settings
from cluster.stack import processes
from cluster.stack.services import SERVICES
from cluster.stack.stack import Stack

LOOPBACK_ADDRESSES = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def processes_of(home, names=(*SERVICES, "guardian")):
    marks = Stack(Settings(home=home))
    found = set()
    for name in names:
        record = processes.ProcessRecord.load(marks._record_path(name))
        found |= set(processes.find_members(marks._mark(name), record))
    return found


def listening_addresses(pids):
    """Local addresses of the listening TCP sockets of these processes, from /proc (proc_net(5))."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for link in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(link.path))
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                addresses.add(fields[1].split(":")[0])
    return addresses
