"""Keeps renders in the queue while something is away that every render needs.

No package does this: the kept circuit breakers let real calls through to find out whether a service is back. A render
is too dear for that, and the services have checks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from cluster.faults import Backoff
from m2dao.errors import M2daoError

log = logging.getLogger(__name__)
_CHECK_S = 5.0  # a service that takes longer to answer is not back


class Breaker:
    """Opens when renders meet an outage, and closes when the service answers its check.

    Args:
        checks: code of the error that an outage raises -> what raises while it lasts.
        backoff: the waits between checks.
    """

    def __init__(self, checks: Mapping[str, Callable[[], object]], backoff: Backoff):
        self._checks = dict(checks)
        self._backoff = backoff
        self._red: set[str] = set()
        self._num_checks = 0
        self._next = 0.0  # when the next check is due

    def trip(self, code: str) -> None:
        """A render met an outage whose error has this code; others than those of ``checks`` change nothing."""
        if code in self._checks and code not in self._red:
            log.warning("no renders are claimed: a service is away", extra={"code": code})
            self._red.add(code)
            self._rest()

    def rest(self) -> None:
        """Let nothing through for a wait that grows with every call, until ``recover``."""
        self._rest()

    def recover(self) -> None:
        """Something went well: the next wait is the shortest again."""
        self._num_checks = 0

    async def closed(self) -> bool:
        """Whether renders may be claimed now; asks the services that were away, when it is time to."""
        if time.monotonic() < self._next:
            return False
        for code in list(self._red):
            try:
                await asyncio.wait_for(asyncio.to_thread(self._checks[code]), _CHECK_S)
            except (M2daoError, TimeoutError):
                self._rest()
                return False
            log.warning("renders are claimed again: a service is back", extra={"code": code})
            self._red.discard(code)
        return True

    def _rest(self) -> None:
        self._next = time.monotonic() + self._backoff.wait_s(self._num_checks)
        self._num_checks += 1
