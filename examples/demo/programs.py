"""Runs the demo's programs as command lines, watches them, and leaves none behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Any

from m2dao.errors import InputError, M2daoError

END_GRACE_S = 40.0  # an interrupted `up` undoes what it began, which takes its time
_SHOW_EVERY_S = 5.0  # in a log file; a terminal is refreshed at once
Answer = dict[str, Any]  # the JSON object that a program prints
_ROOT = Path(__file__).resolve().parents[2]


class Screen:
    """What the person in front of it sees, on standard error: steps, and below them what runs now.

    Args:
        num_steps: how many there will be.
    """

    def __init__(self, num_steps: int):
        self._num_steps, self._step = num_steps, 0
        self._began = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._now: dict[str, str] = {}
        self._shown: dict[str, float] = {}

    @property
    def elapsed_s(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._began

    def step(self, text: str) -> None:
        """Begin the next step."""
        with self._lock:
            self._step += 1
            self._clear()
            self._now.clear()
            print(f"[{self._step}/{self._num_steps}] {self._clock()}  {text}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        with self._lock:
            self._clear()
            print(f"      {self._clock()}  {text}", file=sys.stderr, flush=True)

    def now(self, name: str, text: str) -> None:
        """What the program ``name`` is at; replaces what it was at before."""
        with self._lock:
            self._now[name] = text
            if self._is_terminal:
                line = "   ".join(f"{who}: {what}" for who, what in self._now.items())
                self._clear()
                sys.stderr.write(line[: max(20, _columns() - 1)])
                sys.stderr.flush()
            elif time.monotonic() - self._shown.get(name, -_SHOW_EVERY_S) >= _SHOW_EVERY_S:
                self._shown[name] = time.monotonic()
                print(f"      {self._clock()}  {name}: {text}", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take away what ``now`` shows, before a program draws on the terminal itself."""
        with self._lock:
            self._now.clear()
            self._clear()

    def _clear(self) -> None:
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")

    def _clock(self) -> str:
        minutes, seconds = divmod(int(self.elapsed_s), 60)
        return f"{minutes}:{seconds:02d}"


class Programs:
    """Runs our command lines; ``close`` ends those that still run, with all their children.

    Args:
        screen: where their progress is shown.
        env: their environment.
        logs: folder for what they say.
    """

    def __init__(self, screen: Screen, env: Mapping[str, str], logs: Path):
        self._screen, self._logs = screen, logs
        self._env = {**env, "PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1"}
        self._lock = threading.Lock()
        self._running: dict[int, subprocess.Popen[str]] = {}
        self._closed = False

    def run(self, name: str, module: str, *words: object, own_screen: bool = False, as_json: bool = True) -> Answer:
        """Run ``python -m module words --json`` to its end.

        Args:
            name: for the screen and the log file.
            own_screen: let the program draw its progress on standard error itself.
            as_json: ask for a JSON object; some programs show no progress then.

        Returns:
            the JSON object that it printed; an empty one where none was asked for.

        Raises:
            InputError: it said that what it was given cannot be used (exit code 2).
            M2daoError: it failed; the message holds the last lines it said.
        """
        command = [sys.executable, "-m", module, *map(str, words), *(["--json"] if as_json else [])]
        process = self._start(command, own_screen)
        said: list[str] = []
        if process.stderr is not None:
            self._watch(name, process.stderr, said)
        assert process.stdout is not None  # a pipe, see _start
        with process.stdout:
            out = process.stdout.read()
        process.wait()
        with self._lock:  # not when we are interrupted: `close` must find it then
            self._running.pop(process.pid, None)
        with open(self._logs / f"{name}.log", "a", encoding="utf-8") as log:
            log.write("\n".join([" ".join(command), *said, ""]))
        if process.returncode != 0:
            kind = InputError if process.returncode == 2 else M2daoError
            raise kind(name, "to succeed", f"exit code {process.returncode}", "\n".join(said[-12:]))
        if not as_json:
            return {}
        try:
            answer: Answer = json.loads(out)
        except ValueError as error:
            raise M2daoError(name, "one JSON object on standard output", repr(out[:200])) from error
        return answer

    def run_together(self, tasks: Sequence[Callable[[], Answer]]) -> list[Answer]:
        """Run several at the same time; when one fails, the others are ended and its error is raised."""
        with ThreadPoolExecutor(max_workers=len(tasks)) as pool:
            futures = [pool.submit(task) for task in tasks]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                failed = [error for future in done if (error := future.exception()) is not None]
                if failed:
                    raise failed[0]
                return [future.result() for future in futures]
            except BaseException:
                self._end_all()
                raise

    def close(self) -> None:
        """End everything that still runs; nothing can be started afterwards."""
        self._closed = True
        self._end_all()

    def _start(self, command: list[str], own_screen: bool) -> subprocess.Popen[str]:
        with self._lock:
            if self._closed:
                raise M2daoError(command[2], "to be started", "the demo is ending")
            # A session of its own: Ctrl-C comes to the demo alone, which then ends its programs in order.
            process = subprocess.Popen(
                command,
                env=self._env,
                text=True,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=None if own_screen else subprocess.PIPE,
            )
            self._running[process.pid] = process
            return process

    def _watch(self, name: str, stream: IO[str], said: list[str]) -> None:
        """Read what a program says until it says no more; progress bars come as lines that end in a return."""
        rest = ""
        with stream:
            while data := os.read(stream.fileno(), 65536):
                lines = re.split(r"[\r\n]+", rest + data.decode(errors="replace"))
                rest = lines.pop()
                for line in (re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).strip() for text in lines):
                    if line:
                        self._screen.now(name, re.sub(rf"^{re.escape(name)}[: ]+", "", line))
                        said.append(line)
                        del said[:-200]
        if rest.strip():
            said.append(rest.strip())

    def _end_all(self) -> None:
        with self._lock:
            processes = list(self._running.values())
        for process in processes:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + END_GRACE_S
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            _signal(process, signal.SIGKILL)  # and whatever it left in its group
            process.wait()


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 80
