"""Keeps a claim alive: of a render, of a fit, of one that waits for a replica, or of a seat.

    with Lease(jobs, claim, lease_s=30) as lease:  # renewed by a thread
        lease.tell("fit: step 200", 0.5)           # goes out with the next heartbeat; raises LeaseLost

    lease = Lease(jobs, claim, lease_s=15)
    await lease.keep()                             # renewed on the event loop, until it is lost or lease.stop()

The work runs for minutes between its own words (decoding, compiling), so somebody else must renew the claim. Once it
is lost, ``tell`` and ``check`` raise: what the work would still do does not count.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from typing import Protocol, TypeVar

from cluster.telemetry.scope import carried
from m2dao.errors import LeaseLost, M2daoError, ServiceUnavailable

logger = logging.getLogger(__name__)

BEAT_S = 0.5  # how fresh progress is, and how late work that reports progress learns that it was cancelled
_RENEWALS = 6  # in the length of a lease, when there is no news: several may go missing


class Held(Protocol):
    """What is claimed: a job, or a seat."""

    @property
    def subject(self) -> str:
        """What it is, for people."""


_Claim = TypeVar("_Claim", bound=Held, contravariant=True)


class Renews(Protocol[_Claim]):
    """Where heartbeats go: ``Jobs`` for claims, ``Seats`` for seats."""

    def heartbeat(self, claim: _Claim, *, lease_s: float, progress: float | None, stage: str | None) -> None:
        """Renew the claim; raises LeaseLost when it is somebody else's."""


class Lease:
    """Renews a claim, carries its progress, and notices that it was lost. Safe to share between threads.

    Args:
        jobs: where the heartbeats go.
        claim: what is held.
        lease_s: how long the claim lasts without a heartbeat.
        beat_s: how often news is passed on.
        is_fresh: whether the holder has just renewed the claim itself; otherwise the first heartbeat goes out at once.
        patience_s: the claim also counts as lost once the store has been silent for this long. By default it never
            does: the job may still be ours, and the store will say so when it is back.
    """

    def __init__(
        self,
        jobs: Renews[_Claim],
        claim: _Claim,
        *,
        lease_s: float,
        beat_s: float = BEAT_S,
        is_fresh: bool = False,
        patience_s: float = math.inf,
    ):
        self._jobs, self._claim = jobs, claim
        self._lease_s, self._patience_s = lease_s, patience_s
        self._pause_s = min(beat_s, lease_s / 4)
        self._lock = threading.Lock()
        self._stage: str | None = None
        self._progress: float | None = None
        self._is_fresh = is_fresh
        self._has_news = not is_fresh  # the first heartbeat takes the claim over from whoever kept it until now
        self._renewed = time.monotonic()
        self._lost: LeaseLost | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=carried(self._run), name=f"lease of {claim.subject}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self._thread.join()

    def tell(self, stage: str, progress: float | None = None) -> None:
        """Say what is being done, and perhaps how far it is (0..1).

        Raises:
            LeaseLost: the job is not ours any more.
        """
        self.check()
        with self._lock:
            self._stage = stage
            self._progress = self._progress if progress is None else min(max(progress, 0.0), 1.0)
            self._has_news = True

    def check(self) -> None:
        """Return when the job is still ours, as far as is known.

        Raises:
            LeaseLost: it is not.
        """
        if self._lost is not None:
            raise self._lost

    def stop(self) -> None:
        """Renew no more. The claim stays until it is ended or runs out."""
        self._stopped.set()

    async def keep(self) -> None:
        """Renew from an event loop; returns once the claim is lost or ``stop`` was called."""
        while not self._over:
            await asyncio.sleep(self._pause_s)
            if not self._over and self._due:
                await asyncio.to_thread(self._beat)

    @property
    def _over(self) -> bool:
        return self._stopped.is_set() or self._lost is not None

    @property
    def _due(self) -> bool:
        return self._has_news or time.monotonic() - self._renewed >= self._lease_s / _RENEWALS

    def _run(self) -> None:
        if self._is_fresh:
            self._stopped.wait(self._pause_s)
        while not self._over:
            if self._due:
                self._beat()
            self._stopped.wait(self._pause_s)

    def _beat(self) -> None:
        with self._lock:
            has_news, self._has_news = self._has_news, False
            news = (self._stage, self._progress) if has_news else (None, None)
        try:
            self._jobs.heartbeat(self._claim, lease_s=self._lease_s, progress=news[1], stage=news[0])
            self._renewed = time.monotonic()
        except LeaseLost as error:
            self._lost = error
        except ServiceUnavailable as error:
            self._has_news = has_news or self._has_news
            silent_s = time.monotonic() - self._renewed
            logger.warning("a heartbeat failed", extra={"subject": self._claim.subject, "error": str(error)})
            if silent_s > self._patience_s:  # somebody else may have the job by now
                self._lost = LeaseLost(self._claim.subject, "heartbeats to arrive", str(error))
        except M2daoError:
            logger.exception("a heartbeat failed", extra={"subject": self._claim.subject})
