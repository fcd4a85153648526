"""A keeper beside the API, for sites that start none themselves: a shell around ``cluster.keeper``."""

from __future__ import annotations

import threading

from cluster.keeper.chores import make_keeper
from cluster.settings import Settings
from cluster.telemetry.logs import configure_logging
from cluster.telemetry.traces.export import flush_traces, start_traces
from m2dao.errors import ServiceError

DEPLOYMENT = "keeper"


class KeeperReplica:
    """One keeper. It waits while another one works. Where the services are comes from the environment."""

    def __init__(self) -> None:
        settings = Settings.from_env()
        configure_logging(DEPLOYMENT, level=settings.log_level)
        start_traces(DEPLOYMENT, settings)
        self._stop = threading.Event()
        keeper = make_keeper(settings)
        self._thread = threading.Thread(target=keeper.run, args=(self._stop,), name="keeper", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        """Raise when it keeps no more; Serve then replaces it."""
        if not self._thread.is_alive():
            raise ServiceError("keeper", "to run", "a stopped one")

    def __del__(self) -> None:
        """Called by Serve when it stops the replica; what it was at goes on in the next keeper."""
        stop = getattr(self, "_stop", None)
        if stop is not None:
            stop.set()
            flush_traces()
