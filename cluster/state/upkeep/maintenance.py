"""Maintenance: nothing new is accepted, what was accepted is finished, and everything can be read.

One key says so. The scripts that let uploads in and that create jobs look at it themselves. So a request that races
the switch is either an open job, which ``backlog`` counts from then on, or it was refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from cluster.state import keys
from cluster.state.link import RedisLink
from m2dao.errors import UnderMaintenance


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Why nothing new is accepted.

    Args:
        reason: for people; empty when none was given.
        since_s: Unix time.
    """

    reason: str
    since_s: float


class Maintenance:
    """The switch. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink):
        self._link = link

    def begin(self, reason: str = "") -> Notice:
        """Accept nothing new from now on; returns the notice that stands, which may be an earlier one."""
        seconds, microseconds = self._link.call("TIME")
        text = json.dumps({"reason": reason, "since_s": int(seconds) + int(microseconds) / 1e6})
        self._link.call("SET", keys.MAINTENANCE, text, "NX")
        return self.notice() or _notice(text)

    def end(self) -> bool:
        """Accept again; returns whether nothing was accepted until now."""
        return bool(self._link.call("DEL", keys.MAINTENANCE))

    def notice(self) -> Notice | None:
        """Why nothing new is accepted; None when it is."""
        text = self._link.call("GET", keys.MAINTENANCE)
        return None if text is None else _notice(text)

    def check(self) -> None:
        """Return when new work is accepted.

        Raises:
            UnderMaintenance: it is not.
        """
        if self.notice() is not None:
            raise under_maintenance()


def under_maintenance() -> UnderMaintenance:
    """The error of a request for something new."""
    return UnderMaintenance(
        "the platform", "to accept new work", "maintenance", "what was accepted is finished; try again later"
    )


def _notice(text: str) -> Notice:
    return Notice(**json.loads(text))
