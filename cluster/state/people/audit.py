"""The audit trail of a tenant: who has done what, on what, from which state to which.

The script that does something notes it in the same step, so nothing is done without an entry. Entries are only added;
the oldest leave when there are more than the setting keeps. Those about client tokens are counted by themselves,
because every key may make tokens.

Who does it is known by context: a request, a command or a keeper says so once.

    with acting("command:anna"):
        champions.move(ref)         # noted as hers
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.ids import TenantId
from cluster.state import keys
from cluster.state.link import RedisLink

_NOBODY = "platform"  # who has not said who it is: a job on the cluster, or a script of the site
_actor: contextvars.ContextVar[str] = contextvars.ContextVar("m2dao_actor", default=_NOBODY)


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One act.

    Args:
        entry_id: its place in the trail; later ones are greater.
        at_s: when, by Redis's clock, as Unix time.
        by: who, such as ``key:0b1c2d3e4f5a``, ``command:anna`` or ``keeper``.
        what: such as ``promote`` or ``revoke-key``.
        on: such as ``identity:anna`` or ``key:0b1c2d3e4f5a``.
        before, after: from what to what, such as versions; empty where that says nothing.
    """

    entry_id: str
    at_s: float
    by: str
    what: str
    on: str
    before: str
    after: str


@contextlib.contextmanager
def acting(by: str) -> Iterator[None]:
    """Note what is done inside as done by ``by``."""
    token = _actor.set(by)
    try:
        yield
    finally:
        _actor.reset(token)


def act_as(by: str) -> None:
    """Note what the present task does from now on, and the threads it asks, as done by ``by``."""
    _actor.set(by)


class AuditTrail:
    """Reads trails, and signs what scripts note. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink, *, most_entries: int):
        self._link, self._most_entries = link, most_entries

    def signature(self) -> str:
        """What a script needs to know to note an act: who does it, and how many entries are kept."""
        return json.dumps([_actor.get(), self._most_entries])

    def page(self, tenant: TenantId, *, before: str = "", limit: int = 100) -> tuple[list[AuditEntry], str | None]:
        """Some entries, the newest first, and where the next page begins.

        Args:
            before: what the page before gave; empty for the first.
            limit: how many at most.
        """
        high = f"({before}" if before else "+"
        commands = [("XREVRANGE", stream, high, "-", "COUNT", limit + 1) for stream in keys.audit(tenant)]
        rows = sorted(itertools.chain(*self._link.steps(commands)), key=lambda row: _place(row[0]), reverse=True)
        entries = [_entry(entry_id, fields) for entry_id, fields in rows[:limit]]
        return entries, entries[-1].entry_id if len(rows) > limit else None


def _place(entry_id: str) -> tuple[int, int]:
    at_ms, _, number = entry_id.partition("-")
    return int(at_ms), int(number)


def _entry(entry_id: str, fields: dict[str, str]) -> AuditEntry:
    return AuditEntry(
        entry_id=entry_id,
        at_s=int(entry_id.partition("-")[0]) / 1000,
        by=fields["by"],
        what=fields["what"],
        on=fields["on"],
        before=fields["before"],
        after=fields["after"],
    )
