"""Starts processes that outlast their command, and finds them again for certain.

Each process is the leader of a session of its own and carries a mark in its environment; what it starts inherits both.
A record (process id, start time, boot) is written beside it. A recorded id counts only while start time and boot still
match, so that a reused process id is never signalled. Stopping ends only when nobody is left of the session, of the
marked, and of what descends from them: a program that renames itself (Valkey, Ray's workers) overwrites its
environment, one that makes a session of its own leaves ours, but nothing does both.

Linux only, because of the boot's id.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from m2dao.errors import StackError
from m2dao.files import whole_file

MARK = "M2DAO_STACK_PROCESS"
_POLL_S = 0.05
_KILL_S = 10.0
_LOOKED_AT = ("ppid", "status", "environ")
_DEAD = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


@dataclass(frozen=True, kw_only=True)
class ProcessRecord:
    """What is written down of a process that was started."""

    pid: int
    start_ticks: int  # since boot
    boot_id: str
    mark: str
    command: list[str]

    def process(self) -> psutil.Process | None:
        """This very process while it runs."""
        process = _living(self.pid)
        same = process is not None and self.boot_id == _boot_id() and _start_ticks(process) == self.start_ticks
        return process if same else None

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return self.process() is not None

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
            raise StackError(command[0], "to be started", str(error), "pip install 'm2dao[embedded]'") from error
    # A child that ends before we do stays a zombie until it is waited for; alive() tells zombies from the living.
    process.returncode = 0  # we let go of it: no "still running" warning when the object is collected
    living = _living(process.pid)
    ticks = 0 if living is None else _start_ticks(living)
    found = ProcessRecord(pid=process.pid, start_ticks=ticks, boot_id=_boot_id(), mark=mark, command=list(command))
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
    leading = leader.process() if leader is not None else None
    # Where the leader is gone, nobody else tells the members.
    _send(signal.SIGTERM, find_members(mark, leader) if leading is None else [leading])
    remaining = _wait_gone(mark, leader, grace_s)
    deadline = time.monotonic() + _KILL_S
    while left := find_members(mark, leader):  # again and again: one may start another while we look
        if time.monotonic() > deadline:
            raise StackError(f"processes {[p.pid for p in left]}", "to end", "they do not", "look at them with ps")
        _send(signal.SIGKILL, left)
        psutil.wait_procs(left, timeout=_POLL_S)
    record.unlink(missing_ok=True)
    return len(remaining)


def find_members(mark: str, leader: ProcessRecord | None) -> list[psutil.Process]:
    """The living processes that belong to a started one, without this process and those it descends from.

    Args:
        mark: in the environment of those that did not overwrite it.
        leader: the record, whose session counts too.
    """
    table = {process.pid: process for process in psutil.process_iter(_LOOKED_AT) if process.info["status"] not in _DEAD}
    session = _session_of(leader)
    members = {pid for pid, p in table.items() if (p.info["environ"] or {}).get(MARK) == mark or _in(pid, session)}
    while children := {pid for pid, p in table.items() if p.info["ppid"] in members} - members:
        members |= children
    # A command that runs inside a marked process must not stop itself half-way.
    ourselves = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    return [table[pid] for pid in sorted(members - ourselves)]


def title_of(process: psutil.Process) -> str:
    """The command line of a process, or the title that it gave itself; empty when it has just ended."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def rss_bytes(pid: int) -> int:
    """The memory of a process; 0 when it has just ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def start_ticks_of(pid: int) -> int:
    """When a living process was started, in clock ticks since boot.

    Raises:
        StackError: there is no such process.
    """
    process = _living(pid)
    if process is None:
        raise StackError(f"process {pid}", "to run", "it does not")
    return _start_ticks(process)


def wait_for_end(pid: int, start_ticks: int) -> None:
    """Return when the process that was started at ``start_ticks`` under the id ``pid`` has ended."""
    process = _living(pid)
    if process is not None and _start_ticks(process) == start_ticks:
        process.wait()


def _session_of(leader: ProcessRecord | None) -> int | None:
    """The session id that the leader made, unless another process has the leader's id by now.

    The kernel gives no process an id that is still the id of a session, so as long as the session has members its id
    is not reused.
    """
    if leader is None or leader.boot_id != _boot_id():
        return None
    process = _living(leader.pid)
    return leader.pid if process is None or _start_ticks(process) == leader.start_ticks else None


def _in(pid: int, session: int | None) -> bool:
    try:
        return os.getsid(pid) == session
    except ProcessLookupError:  # it has just ended
        return False


def _wait_gone(mark: str, leader: ProcessRecord | None, timeout_s: float) -> list[psutil.Process]:
    deadline = time.monotonic() + timeout_s
    while (left := find_members(mark, leader)) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=_POLL_S)  # also collects those that were our children
    return left


def _send(number: int, members: Iterable[psutil.Process]) -> None:
    for process in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _living(pid: int) -> psutil.Process | None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return process if process.status() not in _DEAD else None
    return None


def _start_ticks(process: psutil.Process) -> int:
    """In clock ticks since boot, which no change of the clock moves; 0 when it has just ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return round((process.create_time() - psutil.boot_time()) * os.sysconf("SC_CLK_TCK"))
    return 0


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
