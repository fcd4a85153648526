"""Stops an embedded stack when the process that wanted it ends, even by SIGKILL.

python -m cluster.stack.guardian HOME OWNER_PID OWNER_START_TICKS
"""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

from cluster.settings import Settings
from cluster.stack.processes import process_start_ticks
from cluster.stack.stack import Stack
from m2dao.errors import StackError


def wait_for_end(pid: int, start_ticks: int) -> None:
    """Return when the process that was started at ``start_ticks`` under the id ``pid`` has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # Only now is it certain that the id stays this process's; it may have been reused before.
        if process_start_ticks(pid) == start_ticks:
            select.select([descriptor], [], [])
    except StackError:  # a zombie: it has ended
        return
    finally:
        os.close(descriptor)


def main(arguments: list[str]) -> None:
    home, pid, ticks = arguments
    wait_for_end(int(pid), int(ticks))
    Stack(Settings(home=Path(home))).down(progress=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main(sys.argv[1:])
