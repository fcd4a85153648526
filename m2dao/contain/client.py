"""The caller's side of contained processes: starts the server, sends calls, reads answers.

    calls = ContainedCalls(["m2dao.media.audio"])
    calls.start()                                  # imports, once; raises when this site cannot contain
    answer = calls.run("package.module:function", {"path": "/tmp/a/upload"}, box)
    answer = await calls.run_async(...)

The function is called as ``function(say, **arguments)``; what it passes to ``say`` reaches ``on_progress``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import m2dao.errors
from m2dao.contain.box import NUM_USERS, Box
from m2dao.errors import (
    NO_ROOM,
    ContainedProcessDied,
    ContainedProcessKilled,
    ContainmentUnavailable,
    InputError,
    M2daoError,
    ServiceError,
)

log = logging.getLogger(__name__)
START_S = 120.0  # for imports, on a machine that is busy
_MAX_LINE = 1 << 20
_MAX_WORDS = 2000
_TRIES = 2  # a server that is killed takes along the calls that it has not begun
_GRACE_S = 10.0  # beyond the time of a call, until its server counts as stuck
Progress = Callable[..., None]


class ContainedCalls:
    """Calls functions in contained processes, one process a call. Safe to share between threads.

    Args:
        modules: what the server imports, once; functions of other modules are imported by each call.
        allow_uncontained: whether calls are made where the site lacks a part of the containment.
        warm_up: ``module:function`` that does what calls do, on a file that it makes in the folder it is given. The
            server and every spare process call it, so that the calls need not warm up.
        num_spare: processes that are made before their calls.
        env: variables that the processes see, beside a few of our own. They see nothing else of our environment.
        python: the interpreter.
    """

    def __init__(
        self,
        modules: Sequence[str],
        *,
        allow_uncontained: bool = False,
        warm_up: str = "",
        num_spare: int = 0,
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ):
        self._modules, self._allow_uncontained = list(modules), allow_uncontained
        self._env, self._python = dict(env or {}), python
        self._warm_up, self._num_spare = warm_up, num_spare
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def start(self) -> list[str]:
        """Start the server, if it does not run, and wait until it has imported everything.

        Returns:
            what this site lacks; calls are made all the same.

        Raises:
            ContainmentUnavailable: the site lacks a part, or the server did not start.
        """
        with self._lock:
            if self._server is None or not self._server.alive:
                self._stop()
                self._server = _Server.started(self)
            lacks = self._server.lacks
        if lacks and not self._allow_uncontained:
            raise ContainmentUnavailable(
                "contained processes", "namespaces, Landlock and seccomp", f"a site that lacks {', '.join(lacks)}"
            )
        return lacks

    def close(self) -> None:
        """End the server. Calls that run come to their end."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        self._server = None

    def _replace(self, server: _Server) -> None:
        """Let the next call start another server: one that dies takes calls until the very end."""
        with self._lock:
            if self._server is server:
                self._stop()

    def run(
        self, function: str, arguments: Mapping[str, Any], box: Box, *, on_progress: Progress = lambda *words: None
    ) -> Any:
        """Call ``module:function`` inside ``box`` and return its answer, which JSON can hold.

        An error of ``on_progress`` ends the process, and is raised.

        Raises:
            InputError: the function's own refusal.
            ContainedProcessDied: it ended without an answer, or its time was up.
            ContainedProcessKilled: something outside ended it, as the kernel does where memory is short.
            ContainmentUnavailable: no contained process can be made, or each was killed with its server.
            OSError: there was no room for what the function was to write.
            ServiceError: the function has a fault.
        """
        for _ in range(_TRIES):
            server, answers = self._begin(function, arguments, box)
            with answers, answers.makefile("rb") as lines:
                answers.settimeout(box.wall_s + _GRACE_S)
                while line := _next_line(lines):
                    message = _read(line)
                    if "progress" not in message:
                        return _answer(function, message)
                    on_progress(*message["progress"])
            self._replace(server)
        raise _all_killed(function)

    async def run_async(self, function: str, arguments: Mapping[str, Any], box: Box) -> Any:
        """``run`` on an event loop. When it is cancelled, the process is ended."""
        for _ in range(_TRIES):
            if self._server is None or not self._server.alive:
                await asyncio.to_thread(self.start)
            server, answers = self._begin(function, arguments, box)
            reader, writer = await asyncio.open_unix_connection(sock=answers, limit=_MAX_LINE)
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(box.wall_s + _GRACE_S):
                        while line := await reader.readline():
                            message = _read(line)
                            if "progress" not in message:
                                return _answer(function, message)
            finally:
                writer.close()
            self._replace(server)
        raise _all_killed(function)

    def _begin(self, function: str, arguments: Mapping[str, Any], box: Box) -> tuple[_Server, socket.socket]:
        """Send a call; returns the server that took it, and the socket on which answers come."""
        call = {"function": function, "arguments": dict(arguments), "box": dataclasses.asdict(box)}
        ours, theirs = socket.socketpair()
        with theirs:
            for _ in range(_TRIES):  # a server that has died is started anew
                self.start()
                with self._lock:
                    if self._server is not None and self._server.send(json.dumps(call).encode(), theirs):
                        return self._server, ours
        ours.close()
        raise _all_killed(function)


@dataclasses.dataclass(kw_only=True)
class _Server:
    """A server that has imported everything."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    root: Path
    lacks: list[str]

    @classmethod
    def started(cls, calls: ContainedCalls) -> _Server:
        packages = _packages(calls._modules)
        root = Path(tempfile.mkdtemp(prefix="m2dao-contained-"))
        root.chmod(0o755)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        first = {
            "modules": calls._modules,
            "packages": packages,
            "root": str(root),
            "user": os.getpid() % NUM_USERS,
            "tolerant": calls._allow_uncontained,
            "warm_up": calls._warm_up,
            "spare": calls._num_spare if calls._warm_up else 0,
        }
        with theirs:
            process = subprocess.Popen(
                # -P: no folder that a caller happens to work in is searched for modules.
                [calls._python, "-P", "-m", "m2dao.contain.server", str(theirs.fileno())],
                env=_environment(packages, calls._env),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,  # an interrupt at the terminal is for us; the server ends when we do
                cwd="/",
            )
        ours.settimeout(START_S)
        server = cls(process=process, control=ours, root=root, lacks=[])
        try:
            ours.send(json.dumps(first).encode())
            ready = json.loads(ours.recv(_MAX_LINE))
        except (OSError, ValueError) as error:  # the socket was closed, or nothing came
            server.stop()
            raise ContainmentUnavailable("contained processes", "a server that starts", "none; see the log") from error
        ours.setblocking(False)
        server.lacks = list(ready["lacks"])
        return server

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def send(self, call: bytes, answers: socket.socket) -> bool:
        """Hand a call over; False when the server does not take it."""
        try:
            socket.send_fds(self.control, [call], [answers.fileno()])
        except OSError:
            self.process.kill()
            self.process.wait()  # so that nobody takes it for alive
            return False
        return True

    def stop(self) -> None:
        self.control.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.root, ignore_errors=True)


def _packages(modules: Iterable[str]) -> list[str]:
    """The folders of the packages that some modules belong to."""
    specs = [importlib.util.find_spec(name) for name in sorted({"m2dao", *(m.partition(".")[0] for m in modules)})]
    return [folder for spec in specs if spec for folder in spec.submodule_search_locations or ()]


def _environment(packages: Iterable[str], more: Mapping[str, str]) -> dict[str, str]:
    """What the processes may see of an environment: nothing of ours, so no credentials."""
    # One thread per library, because every thread's stack counts as address space.
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(sorted({os.path.dirname(folder) for folder in packages})),
        "HOME": "/",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        **more,
    }


def _next_line(lines: BinaryIO) -> bytes:
    """The next line of a call; nothing at its end, or when its server is stuck."""
    try:
        return lines.readline(_MAX_LINE)
    except TimeoutError:  # it does not even end its children
        return b""


def _read(line: bytes) -> dict[str, Any]:
    """A message of a contained process; whatever else it says becomes an empty one."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _answer(function: str, message: Mapping[str, Any]) -> Any:
    """The answer that a message is. Nothing in it is trusted: the process may have been taken over."""
    if "ok" in message:
        return message["ok"]
    match message:
        case {"refused": [str(kind), *words]}:
            raise _refusal(kind, [str(word)[:_MAX_WORDS] for word in words[:4]])
        case {"died": [str(expected), str(got)]}:
            raise ContainedProcessDied(function, expected, got)
        case {"killed": [str(expected), str(got)]}:
            raise ContainedProcessKilled(function, expected, got)
        case {"no_room": int(number)} if number in NO_ROOM:
            raise OSError(number, os.strerror(number), function)
        case {"broken": str(text)}:
            log.error("a contained process failed: %s", text[:_MAX_LINE], extra={"function": function})
    raise _no_answer(function)


def _refusal(kind: str, words: list[str]) -> M2daoError:
    """What the function said of its file; no other kind of error may come from inside."""
    found = getattr(m2dao.errors, kind, None)
    if isinstance(found, type) and issubclass(found, InputError) and words:
        return found(*words)
    return _no_answer(kind)


def _no_answer(function: str) -> ServiceError:
    return ServiceError(f"contained call of {function}", "an answer", "none", "see the log")


def _all_killed(function: str) -> ContainmentUnavailable:
    return ContainmentUnavailable(
        f"contained call of {function}", "an answer", f"none of {_TRIES} servers", "see the log; is memory short?"
    )
