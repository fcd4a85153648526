"""Does the chores of the platform, in one process at a time, and loses nothing when it is killed.

Any number of keepers may run; the one that holds the seat works, the others wait for its end. What a chore does is
safe to repeat and to cut off anywhere: the next keeper begins where the state store says that things are.

Each chore has a thread of its own, so that a service that hangs holds up only the chores that need it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

from cluster.state.lease import Lease
from cluster.state.people.audit import acting
from cluster.state.seats import KEEPER, Seats
from m2dao.errors import LeaseLost, M2daoError

logger = logging.getLogger(__name__)

LEASE_S = 10.0  # how long a keeper may be silent before another takes over
_MOST_WAIT_S = 60.0  # between tries of a chore whose services do not answer


class Chore(Protocol):
    """Something that a keeper does again and again."""

    name: str

    def do(self, lease: Lease) -> float:
        """Do it once; returns after how many seconds it is due again.

        ``lease.check()`` raises ``LeaseLost`` when another keeper has taken over.
        """


class Keeper:
    """A keeper. Safe to run beside others.

    Args:
        seats: tell who works.
        chores: what to do.
        lease_s: how long it may be silent before another takes over.
        on_failed: called with the name of a chore that failed.
        on_rest: called when this keeper works no more.
    """

    def __init__(
        self,
        seats: Seats,
        chores: Sequence[Chore],
        *,
        lease_s: float = LEASE_S,
        on_failed: Callable[[str], None] = lambda chore: None,
        on_rest: Callable[[], None] = lambda: None,
    ):
        self._seats, self._chores, self._lease_s = seats, chores, lease_s
        self._on_failed, self._on_rest = on_failed, on_rest
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def run(self, stop: threading.Event) -> None:
        """Work whenever nobody else does, until ``stop`` is set."""
        while not stop.is_set():
            try:
                seat = self._seats.take(KEEPER, self._holder, lease_s=self._lease_s)
                if seat is not None:
                    logger.info("keeping", extra={"holder": self._holder, "fence": seat.fence})
                    with Lease(self._seats, seat, lease_s=self._lease_s, patience_s=self._lease_s) as lease:
                        self._work(lease, stop)
                    self._seats.leave(seat)
            except M2daoError as error:
                logger.warning("not keeping", extra={"error": str(error)})
            stop.wait(self._lease_s / 4)

    def _work(self, lease: Lease, stop: threading.Event) -> None:
        """Do the chores until the seat is lost or ``stop`` is set; returns when every chore has ended."""
        over = threading.Event()
        threads = [
            threading.Thread(target=self._repeat, args=(chore, lease, over), name=chore.name) for chore in self._chores
        ]
        for thread in threads:
            thread.start()
        try:
            while not stop.wait(0.2):
                lease.check()
        except LeaseLost:
            logger.warning("another keeper has taken over")
        finally:
            over.set()
            for thread in threads:
                thread.join()
            self._on_rest()

    def _repeat(self, chore: Chore, lease: Lease, over: threading.Event) -> None:
        num_failed = 0
        while not over.is_set():
            try:
                with acting("keeper"):
                    wait_s, num_failed = chore.do(lease), 0
            except LeaseLost:
                return
            except M2daoError as error:
                num_failed += 1
                self._on_failed(chore.name)
                wait_s = min(_MOST_WAIT_S, 2.0 ** min(num_failed, 6) / 2)
                logger.warning("a chore failed; again soon", extra={"chore": chore.name, "error": str(error)})
            except Exception:
                num_failed += 1
                self._on_failed(chore.name)
                wait_s = min(_MOST_WAIT_S, 2.0**num_failed)
                logger.exception("a chore failed; again soon", extra={"chore": chore.name})
            over.wait(wait_s)
