"""Seats: work that one process at a time does, whichever that is.

A seat is held for some seconds and renewed by a ``Lease``. Each holder has a number (the fence) that grows with every
change of hands, so a holder that stalled learns that another has taken over.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.state import keys, scripts
from cluster.state.link import RedisLink
from m2dao.errors import LeaseLost

KEEPER = "keeper"  # who owns all open work


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A seat that is held."""

    name: str
    holder: str
    fence: int

    @property
    def subject(self) -> str:
        return f"seat {self.name}"


class Seats:
    """All seats. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink):
        self._link = link

    def take(self, name: str, holder: str, *, lease_s: float) -> Seat | None:
        """Take a seat for some seconds; None when another holder has it.

        Args:
            name: which one.
            holder: a name that no other process ever has.
            lease_s: how long it is held without a heartbeat.
        """
        fence, _ = self._link.run(scripts.TAKE_SEAT, [keys.seat(name)], [holder, round(lease_s * 1000)])
        return Seat(name=name, holder=holder, fence=fence) if fence else None

    def heartbeat(
        self, claim: Seat, *, lease_s: float, progress: float | None = None, stage: str | None = None
    ) -> None:
        """Keep a seat, and say what is being done; ``Lease`` calls it.

        Raises:
            LeaseLost: another holder has it.
        """
        words = [claim.fence, round(lease_s * 1000), stage or ""]
        if self._link.run(scripts.RENEW_SEAT, [keys.seat(claim.name)], words) != "ok":
            raise LeaseLost(claim.subject, f"to be held by {claim.holder}", "another holder", "stop")

    def leave(self, seat: Seat) -> None:
        """Leave a seat, so that nobody waits for its end; nothing happens when it is somebody else's."""
        self._link.run(scripts.RENEW_SEAT, [keys.seat(seat.name)], [seat.fence, 0, ""])

    def is_held(self, name: str) -> bool:
        """Whether somebody holds a seat now."""
        found = self._link.hash(keys.seat(name))
        seconds, microseconds = self._link.call("TIME")
        return bool(found) and int(found["until"]) > int(seconds) * 1000 + int(microseconds) // 1000
