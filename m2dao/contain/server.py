"""Imports once, then makes a contained process for each call; ``client.py`` starts it.

    server   imports the code, in an empty network; touches no file of a caller
      warden     one for each call, makes the process namespace, kills the child when the caller leaves or time is up
        child        shuts itself in, makes the call, sends what it found, ends

A call arrives as one JSON message with the socket on which its caller listens. The child sends lines of JSON there:
``{"progress": [...]}`` any number of times, then ``{"ok": ...}``, ``{"refused": [kind, *arguments]}`` or
``{"broken": text}``. When the child dies without a word, the warden says ``{"died": [what was expected, what came]}``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import itertools
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from m2dao.contain import linux
from m2dao.contain.box import FIRST_USER, NUM_USERS, Box, enter_namespaces, shared_paths, shut_in
from m2dao.errors import InputError

_MAX_MESSAGE = 1 << 16
_TRIAL_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """What all calls share.

    Args:
        root: an empty folder to mount roots on.
        visible: what every box shows for reading.
        tolerant: whether calls are made where the site lacks a part.
    """

    root: str
    visible: tuple[str, ...]
    tolerant: bool


def main() -> int:
    """Serve calls until the other end of the control socket is closed."""
    control = socket.socket(fileno=int(sys.argv[1]))
    first = json.loads(control.recv(_MAX_MESSAGE))
    for module in first["modules"]:
        importlib.import_module(module)
    server = Server(root=first["root"], visible=shared_paths(first["packages"]), tolerant=first["tolerant"])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for wardens
    control.send(json.dumps({"lacks": _lacking(server)}).encode())
    for turn in itertools.count(first["user"]):
        data, descriptors, _, _ = socket.recv_fds(control, _MAX_MESSAGE, 1)
        if not data:
            return 0
        caller = socket.socket(fileno=descriptors[0])
        if os.fork() == 0:
            control.close()
            _guard(server, json.loads(data), caller, FIRST_USER + turn % NUM_USERS)
        caller.close()
    raise AssertionError("unreachable")


def _lacking(server: Server) -> list[str]:
    """What this site lacks, found by shutting a child in."""
    box = Box(readable=(), writable=(), cpu_s=10, wall_s=_TRIAL_S, memory_bytes=1 << 40, file_bytes=0)
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        trial = dataclasses.replace(server, tolerant=True)
        call = {"function": None, "arguments": {}, "box": vars(box)}
        _guard(trial, call, theirs, FIRST_USER)
    theirs.close()
    with ours, ours.makefile() as lines:
        answer = json.loads(lines.readline() or "{}")
    return list(answer.get("ok", [f"a contained process that answers ({answer})"]))


def _guard(server: Server, call: dict[str, Any], caller: socket.socket, user: int) -> NoReturn:
    """Make the child, and end it when its time is up or nobody listens any more. Does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    box = Box(**{**call["box"], "readable": tuple(call["box"]["readable"]), "writable": tuple(call["box"]["writable"])})
    with contextlib.suppress(OSError):  # the caller is gone
        _give(box.writable, user)
        lacks = []
        try:
            enter_namespaces(user)
        except OSError as error:
            lacks = [f"namespaces ({error.strerror or error})"]
            if not server.tolerant:
                _say(caller, {"broken": lacks[0]})
                os._exit(1)
        child = os.fork()
        if child == 0:
            _work(server, call, box, caller, user, lacks)
        if died := _watch(child, caller, box.wall_s):
            _say(caller, {"died": died})
    os._exit(0)


def _give(paths: tuple[str, ...], user: int) -> None:
    """Make the child's user the owner of what it may write, where this process may say so."""
    if not linux.has_capability(linux.CAP_CHOWN):
        return
    for path in paths:
        os.chown(path, user, user)
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                os.lchown(os.path.join(folder, name), user, user)


def _watch(child: int, caller: socket.socket, wall_s: float) -> tuple[str, str] | None:
    """Wait for the child; returns what was expected and what came, when it did not end well."""
    process = os.pidfd_open(child)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(caller, select.POLLHUP)
    ready = {descriptor for descriptor, _ in poll.poll(wall_s * 1000)}
    if process not in ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not ready:
        return f"within {wall_s:g} s", "no end"
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return None
    return "within its limits", f"signal {-code}" if code < 0 else f"exit code {code}"


def _work(
    server: Server, call: dict[str, Any], box: Box, caller: socket.socket, user: int, lacks: list[str]
) -> NoReturn:
    """Shut this process in and make the call. Does not return."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.dup2(caller.fileno(), 3)
        os.closerange(4, 1 << 12)
        caller.detach()
        caller = socket.socket(fileno=3)
        lacks = lacks + shut_in(box, user, root=server.root, visible=server.visible, tolerant=server.tolerant)
        answer: dict[str, Any] = {"ok": lacks}
        if call["function"] is not None:
            function = _function(call["function"])
            answer = {"ok": function(lambda *words: _say(caller, {"progress": words}), **call["arguments"])}
    except InputError as error:
        answer = {"refused": [type(error).__name__, *map(str, error.args)]}
    except MemoryError:
        answer = {"refused": ["MediaError", "the file", "one that decodes within the memory limit", "more", ""]}
    except BaseException:
        answer = {"broken": traceback.format_exc()[-4000:]}
    try:
        _say(caller, answer)
    finally:
        os._exit(0)


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def _say(caller: socket.socket, message: dict[str, Any]) -> None:
    caller.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
