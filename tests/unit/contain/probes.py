"""What code that took over a contained process would try. Called inside; each probe says how it went."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import time
from pathlib import Path

from m2dao.errors import InputError


def tell(say, path: str) -> dict[str, str]:
    """What this process is, and what it can see."""
    return {
        "user": str(os.getuid()),
        "process": str(os.getpid()),
        "niceness": str(os.nice(0)),
        "environment": " ".join(sorted(os.environ)),
        "text": Path(path).read_text(),
    }


def attempt(say, action: str, word: str) -> str:
    """Try one thing; "done" when it worked, else the error's name."""
    try:
        _ACTIONS[action](word)
    except OSError as error:
        return type(error).__name__
    return "done"


def _connect(address: str) -> None:
    host, port = address.split(":")
    socket.create_connection((host, int(port)), timeout=5).close()


def _attach(process: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, int(process), 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def _mount(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", path.encode(), b"tmpfs", 0, None) < 0:
        raise OSError(ctypes.get_errno(), "mount")


_ACTIONS = {
    "read": lambda path: Path(path).read_bytes(),
    "list": os.listdir,
    "look": os.stat,
    "write": lambda path: Path(path).write_bytes(b"x"),
    "connect": _connect,
    "unix": lambda path: socket.socket(socket.AF_UNIX).connect(path),
    "kill": lambda process: os.kill(int(process), 9),
    "attach": _attach,
    "mount": _mount,
    "run": lambda path: os.execv(path, [path]),
    "become root": lambda _: os.setuid(0),
    "leave": lambda _: _leave(),
}


def _leave() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000) < 0:
        raise OSError(ctypes.get_errno(), "unshare")


def leave_something(say, path: str) -> list[str]:
    """Leave a mark in this process's memory; returns the marks that were there."""
    before = list(_marks)
    _marks.append(path)
    return before


_marks: list[str] = []


def warm_up(folder: str) -> None:
    """Leave a mark that tells who warmed up, and a file that nobody may see later."""
    _marks.append(f"warmed up by {os.getpid()}")
    Path(folder, f"left by {os.getpid()}").touch()


def wait(say) -> None:
    """Never end; says that it has begun."""
    say("begun", os.getpid())
    while True:
        pass


def crash(say) -> None:
    """End by a fault of memory."""
    ctypes.string_at(1)


def refuse(say, kind: str) -> None:
    """Refuse with an error that this process made up."""
    raise type(kind, (InputError,), {})("the file", "a song", "noise", "sing")


def find_no_room(say) -> None:
    """Meet a full disk."""
    raise OSError(errno.ENOSPC, "no space left on device")


def fill(say, path: str) -> None:
    """Write to a file, byte by byte and without end."""
    with open(path, "ab", buffering=0) as file:
        while True:
            file.write(b"x")
            time.sleep(0.001)


def prepare_recording(say, recording: str, capture_dir: str, size: int) -> None:
    """Stands where a preparation stands, and tries what it must not be able to do."""
    folder = Path(capture_dir)
    folder.mkdir()
    if size == 666:
        (folder / "frames").symlink_to("/etc")
    tenant = folder.parents[1]
    tried = {
        "recording": attempt(say, "read", recording),
        "steps": attempt(say, "read", str(tenant / "steps" / "secret")),
        "neighbour": attempt(say, "read", str(tenant.parent / "other" / "recording.mp4")),
        "socket": attempt(say, "connect", "127.0.0.1:1"),
        "machine code": ",".join(os.listdir(os.environ["NUMBA_CACHE_DIR"])) if "NUMBA_CACHE_DIR" in os.environ else "",
        "environment": "hunter2" if "hunter2" in str(os.environ) else "clean",
    }
    (folder / "found.json").write_text(json.dumps(tried))
