"""Long-lived processes that outlast the command which starts them, and are certain to be found again.

Each process is the leader of a session of its own and carries a mark in its environment; what it starts inherits both.
A record (process id, start time, boot) is written beside it. A recorded id counts only while start time and boot still
match, so that a reused process id is never signalled. Stopping ends only when nobody is left of the session, of the
marked, and of what descends from them: a program that renames itself (Valkey, Ray's workers) overwrites its
environment, one that makes a session of its own leaves ours, but nothing does both.

Linux only: it reads ``/proc``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from m2dao.errors import StackError
from m2dao.files import whole_file

MARK = "M2DAO_STACK_PROCESS"
_POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class ProcessRecord:
    """What is written down of a process that was started."""

    pid: int
    start_ticks: int  # since boot
    boot_id: str
    mark: str
    command: list[str]

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return self.boot_id == _boot_id() and _start_ticks(self.pid) == self.start_ticks

    def save(self, path: Path) -> None:
        with whole_file(path) as partial:
            partial.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> ProcessRecord | None:
        """The record in ``path``; None when there is none or it is damaged (the mark still finds its process)."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def spawn(
    command: Sequence[str], *, mark: str, record: Path, log: Path, env: Mapping[str, str], cwd: Path
) -> ProcessRecord:
    """Start a process that does not end with us, and write its record.

    Args:
        command: program and arguments; no shell is involved.
        mark: what finds it and its children again.
        record: where the record is written.
        log: where its output is appended.
        env: its whole environment; the mark is added.
        cwd: its working folder.

    Raises:
        StackError: the program cannot be started.
    """
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**env, MARK: mark},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise StackError(command[0], "to be started", str(error), "install the project's dependencies") from error
    # A child that ends before we do stays a zombie until it is waited for; alive() tells zombies from the living.
    process.returncode = 0  # we let go of it: no "still running" warning when the object is collected
    found = ProcessRecord(
        pid=process.pid,
        start_ticks=_start_ticks(process.pid) or 0,
        boot_id=_boot_id(),
        mark=mark,
        command=list(command),
    )
    found.save(record)
    return found


def stop(mark: str, record: Path, *, grace_s: float) -> int:
    """Stop everything that carries ``mark``: ask its leader first, then insist.

    Args:
        mark: which processes.
        record: of the leader; removed at the end.
        grace_s: how long they get to end by themselves before they are killed.

    Returns:
        how many processes had to be killed.

    Raises:
        StackError: some could not be killed.
    """
    leader = ProcessRecord.load(record)
    if leader is not None and leader.alive():
        _signal(leader.pid, signal.SIGTERM)
    else:
        for pid in find_members(mark, leader):  # the leader is gone, so nobody else tells them
            _signal(pid, signal.SIGTERM)
    remaining = _wait_gone(mark, leader, grace_s)
    for pid in remaining:
        _signal(pid, signal.SIGKILL)
    # Killing is repeated: a process may have been starting another while we looked.
    deadline = time.monotonic() + 10
    while left := find_members(mark, leader):
        if time.monotonic() > deadline:
            raise StackError(f"processes {left}", "to end", "they do not", "look at them with ps")
        for pid in left:
            _signal(pid, signal.SIGKILL)
        _reap(left)
        time.sleep(_POLL_S)
    record.unlink(missing_ok=True)
    return len(remaining)


def find_members(mark: str, leader: ProcessRecord | None) -> list[int]:
    """The living processes that belong to a started one, without this process and those it descends from.

    Args:
        mark: in the environment of those that did not overwrite it.
        leader: the record, whose session counts too.
    """
    table = {int(entry.name): _stat_fields(int(entry.name)) for entry in os.scandir("/proc") if entry.name.isdigit()}
    alive = {pid: fields for pid, fields in table.items() if fields and fields[0] not in "ZX"}
    session = _session_of(leader, alive)
    members = {pid for pid, fields in alive.items() if int(fields[3]) == session or _carries(pid, mark)}
    while True:  # and whatever descends from them
        children = {pid for pid, fields in alive.items() if int(fields[1]) in members} - members
        if not children:
            return sorted(members - _ancestors())
        members |= children


def _session_of(leader: ProcessRecord | None, alive: Mapping[int, list[str]]) -> int | None:
    """The session id that the leader made, unless another process has the leader's id by now.

    The kernel gives no process an id that is still the id of a session, so as long as the session has members its id
    is not reused.
    """
    if leader is None or leader.boot_id != _boot_id():
        return None
    fields = alive.get(leader.pid)
    return leader.pid if fields is None or int(fields[19]) == leader.start_ticks else None


def _carries(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # another user's, or just ended
        return False


def process_start_ticks(pid: int) -> int:
    """When a living process was started, in clock ticks since boot.

    Raises:
        StackError: there is no such process.
    """
    ticks = _start_ticks(pid)
    if ticks is None:
        raise StackError(f"process {pid}", "to run", "it does not")
    return ticks


def _wait_gone(mark: str, leader: ProcessRecord | None, timeout_s: float) -> list[int]:
    deadline = time.monotonic() + timeout_s
    while left := find_members(mark, leader):
        if time.monotonic() >= deadline:
            break
        _reap(left)
        time.sleep(_POLL_S)
    return left


def _reap(pids: Sequence[int]) -> None:
    """Collect those that were our children (when starting and stopping happen in one process)."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _ancestors() -> set[int]:
    """This process and its parents: a command that runs inside a marked process must not stop itself half-way."""
    chain, pid = set(), os.getpid()
    while pid > 0 and pid not in chain:
        chain.add(pid)
        fields = _stat_fields(pid)
        pid = int(fields[1]) if fields else 0
    return chain


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of ``/proc/<pid>/stat`` from the state on, proc(5); the name before them may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _start_ticks(pid: int) -> int | None:
    """Field 22, the start time; None for a process that is gone or a zombie."""
    fields = _stat_fields(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
