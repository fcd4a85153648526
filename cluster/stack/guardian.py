"""Stops an embedded stack when the process that wanted it ends, even by SIGKILL.

python -m cluster.stack.guardian HOME OWNER_PID OWNER_START_TICKS
"""

from __future__ import annotations

import sys
from pathlib import Path

from cluster.settings import Settings
from cluster.stack.processes import wait_for_end
from cluster.stack.stack import Stack


def main(arguments: list[str]) -> None:
    home, pid, ticks = arguments
    wait_for_end(int(pid), int(ticks))
    Stack(Settings(home=Path(home))).down(progress=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main(sys.argv[1:])
