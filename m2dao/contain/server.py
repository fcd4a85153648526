"""Imports once, then makes a contained process for each call; ``client.py`` starts it.

    server   imports the code; touches no file of a caller
      warden     one for each call, makes the namespaces, kills the child when the caller leaves or time is up
        child        shuts itself in, makes the call, sends what it found, ends

Some wardens and children are made before their calls. Such a child has done everything already that needs no caller's
file: it has a root with all that every box shows, and has warmed up on a file of its own. It still serves one call.

A call arrives as one JSON message with the socket on which its caller listens. The child sends lines of JSON there:
``{"progress": [...]}`` any number of times, then ``{"ok": ...}``, ``{"refused": [kind, *arguments]}``,
``{"no_room": errno}`` or ``{"broken": text}``. When the child dies without a word, the warden says
``{"died": [what was expected, what came]}``, or ``{"killed": [...]}`` where somebody else has killed it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import itertools
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from m2dao.contain import linux, seccomp
from m2dao.contain.box import FIRST_USER, NUM_USERS, Box, enter_namespaces, furnish, shared_paths, shut_in
from m2dao.errors import NO_ROOM, InputError

_MAX_MESSAGE = 1 << 16
_TRIAL_S = 30.0
_QUIET_MS = 50  # without a call, until a spare process is made: to make them would only delay calls that come together
_BEHIND = 5  # steps of niceness: where decoding takes every core, callers still answer others
_KEPT = 3  # the number of the only file that a child keeps open beside the standard ones


@dataclass(frozen=True, kw_only=True)
class Server:
    """What all calls share.

    Args:
        root: an empty folder to mount roots on.
        visible: what every box shows for reading.
        tolerant: whether calls are made where the site lacks a part.
        warm_up: a function that does what calls do, on a file that it makes in the folder it is given; empty for none.
    """

    root: str
    visible: tuple[str, ...]
    tolerant: bool
    warm_up: str = ""


def main() -> int:
    """Serve calls until the other end of the control socket is closed."""
    os.nice(_BEHIND)
    control = socket.socket(fileno=int(sys.argv[1]))
    first = json.loads(control.recv(_MAX_MESSAGE))
    for module in first["modules"]:
        importlib.import_module(module)
    visible, warm_up = shared_paths(first["packages"]), first["warm_up"]
    server = Server(root=first["root"], visible=visible, tolerant=first["tolerant"], warm_up=warm_up)
    with contextlib.suppress(OSError):  # said by the trial
        seccomp.program()
    if warm_up:
        _function(warm_up)(server.root)  # what this process has done once, no child needs to do
    gc.collect()
    gc.freeze()  # a child that collected garbage would have to copy all of this
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for wardens
    control.send(json.dumps({"lacks": _lacking(server)}).encode())
    _serve(server, control, (FIRST_USER + turn % NUM_USERS for turn in itertools.count(first["user"])), first["spare"])
    return 0


def _serve(server: Server, control: socket.socket, users: Iterator[int], num_spare: int) -> None:
    """Hand each call to a warden; in quiet moments, make wardens for the next calls."""
    spare: deque[socket.socket] = deque()
    arrives = select.poll()
    arrives.register(control, select.POLLIN)
    while True:
        if len(spare) < num_spare and not arrives.poll(_QUIET_MS):
            spare.append(_make_warden(server, next(users), (control, *spare), warm=True))
            continue
        data, descriptors, _, _ = socket.recv_fds(control, _MAX_MESSAGE, 1)
        if not data:
            return
        while not _hand_over(spare, data, descriptors):
            spare.append(_make_warden(server, next(users), (control, *spare), warm=False))
        for descriptor in descriptors:
            os.close(descriptor)


def _hand_over(spare: deque[socket.socket], data: bytes, descriptors: list[int]) -> bool:
    """Give a call to the first warden that takes it; False when there is none."""
    while spare:
        with spare.popleft() as warden, contextlib.suppress(OSError):  # a warden that was killed
            socket.send_fds(warden, [data], descriptors)
            return True
    return False


def _make_warden(server: Server, user: int, of_others: Iterable[socket.socket], *, warm: bool) -> socket.socket:
    """Fork a warden; returns the socket on which it takes its one call.

    Args:
        of_others: sockets that it must not keep: its siblings end when the server's ends of theirs are closed.
        warm: whether its child warms up.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        for other in (ours, *of_others):
            other.close()
        _guard(server, theirs, user, warm=warm)
    theirs.close()
    return ours


def _lacking(server: Server) -> list[str]:
    """What this site lacks, found by shutting a child in."""
    box = Box(readable=(), writable=(), cpu_s=10, wall_s=_TRIAL_S, memory_bytes=1 << 40, file_bytes=0)
    call = {"function": None, "arguments": {}, "box": vars(box)}
    ours, theirs = socket.socketpair()
    trial = dataclasses.replace(server, tolerant=True)
    with _make_warden(trial, FIRST_USER, (ours,), warm=False) as warden, theirs:
        socket.send_fds(warden, [json.dumps(call).encode()], [theirs.fileno()])
    with ours, ours.makefile() as lines:
        answer = json.loads(lines.readline() or "{}")
    return list(answer.get("ok", [f"a contained process that answers ({answer})"]))


def _guard(server: Server, orders: socket.socket, user: int, *, warm: bool) -> NoReturn:
    """Make the child, and end it when its time is up or nobody listens any more. Does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    lacks = []
    try:
        enter_namespaces(user)
    except OSError as error:
        lacks = [f"namespaces ({error.strerror or error})"]
    inside, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        orders.close()
        inside.close()
        _work(server, theirs, user, lacks, warm=warm)
    theirs.close()
    data, descriptors, _, _ = socket.recv_fds(orders, _MAX_MESSAGE, 1)
    if not data:  # the server has ended; the child learns it from us
        os._exit(0)
    call, caller = json.loads(data), socket.socket(fileno=descriptors[0])
    with contextlib.suppress(OSError):  # the caller is gone
        if lacks and not server.tolerant:
            _say(caller, {"broken": lacks[0]})
            os._exit(1)
        _give(tuple(call["box"]["writable"]), user)
        socket.send_fds(inside, [data], [caller.fileno()])
        if end := _watch(child, caller, wall_s=call["box"]["wall_s"], cpu_s=call["box"]["cpu_s"]):
            _say(caller, {end[0]: end[1:]})
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


def _watch(child: int, caller: socket.socket, *, wall_s: float, cpu_s: float) -> tuple[str, str, str] | None:
    """Wait for the child; returns how it ended, what was expected and what came, when it did not end well."""
    process = os.pidfd_open(child)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(caller, select.POLLHUP)
    ready = {descriptor for descriptor, _ in poll.poll(wall_s * 1000)}
    if process not in ready:
        os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    if not ready:
        return "died", f"within {wall_s:g} s", "no end"
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return None
    if code != -signal.SIGKILL:
        return "died", "within its limits", f"signal {-code}" if code < 0 else f"exit code {code}"
    # The kernel kills what is beyond its processor time: the first process of a namespace ignores the warning.
    if used.ru_utime + used.ru_stime >= cpu_s:
        return "died", f"within {cpu_s:g} s of processor time", "no end"
    return "killed", "within its limits", f"signal {-code}, sent from outside"


def _work(server: Server, orders: socket.socket, user: int, lacks: list[str], *, warm: bool) -> NoReturn:
    """Get ready, wait for the call, shut this process in and make the call. Does not return."""
    _keep_only(orders)
    orders = socket.socket(fileno=_KEPT)
    try:
        unfurnished = OSError("no namespaces") if lacks else _furnished(server)
        if warm:
            _function(server.warm_up)(server.root)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    data, descriptors, _, _ = socket.recv_fds(orders, _MAX_MESSAGE, 1)
    if not data:
        os._exit(0)
    os.dup2(descriptors[0], _KEPT)
    os.close(descriptors[0])
    orders.detach()
    caller = socket.socket(fileno=_KEPT)
    call = json.loads(data)
    try:
        sent = call["box"]
        box = Box(**{**sent, "readable": tuple(sent["readable"]), "writable": tuple(sent["writable"])})
        lacks = lacks + shut_in(
            box,
            user,
            root=server.root,
            visible=server.visible,
            tolerant=server.tolerant,
            unfurnished=unfurnished,
        )
        answer: dict[str, Any] = {"ok": lacks}
        if call["function"] is not None:
            function = _function(call["function"])
            answer = {"ok": function(lambda *words: _say(caller, {"progress": words}), **call["arguments"])}
    except InputError as error:
        answer = {"refused": [type(error).__name__, *map(str, error.args)]}
    except MemoryError:
        answer = {"refused": ["MediaError", "the file", "one that decodes within the memory limit", "more", ""]}
    except BaseException as error:
        answer = {"broken": traceback.format_exc()[-4000:]}
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            answer = {"no_room": error.errno}
    try:
        _say(caller, answer)
    finally:
        os._exit(0)


def _keep_only(orders: socket.socket) -> None:
    """Close every file but one, which becomes number ``_KEPT``."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.dup2(orders.fileno(), _KEPT)
    os.closerange(_KEPT + 1, 1 << 12)
    orders.detach()


def _furnished(server: Server) -> OSError | None:
    """Make the root; returns why that failed."""
    try:
        furnish(server.root, server.visible)
    except OSError as error:
        return error
    return None


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def _say(caller: socket.socket, message: dict[str, Any]) -> None:
    caller.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
