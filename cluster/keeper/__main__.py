"""A keeper as a process of its own.

python -m cluster.keeper
"""

from __future__ import annotations

import signal
import sys
import threading

from cluster.keeper.chores import make_keeper
from cluster.settings import Settings
from cluster.telemetry.logs import configure_logging
from m2dao.errors import M2daoError


def main() -> int:
    """Keep until a signal comes; returns the exit code."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = Settings.from_env()
        configure_logging("keeper", level=settings.log_level)
        make_keeper(settings).run(stop)
    except M2daoError as error:
        print(f"cluster.keeper: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
