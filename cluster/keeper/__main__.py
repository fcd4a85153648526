"""A keeper as a process of its own.

python -m cluster.keeper
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence

from cluster.control.fit_requests import ENGINE_WORK
from cluster.keeper.chores import make_keeper
from cluster.settings import Settings
from cluster.telemetry.logs import configure_logging
from cluster.telemetry.traces.export import start_traces
from m2dao.errors import M2daoError


def main(*, work: str = ENGINE_WORK, job_flags: Sequence[str] = ()) -> int:
    """Keep until a signal comes; returns the exit code. See ``make_keeper`` for what it is told."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = Settings.from_env()
        configure_logging("keeper", level=settings.log_level)
        start_traces("keeper", settings)
        make_keeper(settings, work=work, job_flags=job_flags).run(stop)
    except M2daoError as error:
        print(f"cluster.keeper: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
