"""What tenants have used, by day and identity: seconds rendered and fitted, and storage.

Renders and fits are counted in the very step that ends them, so each counts once, whoever dies meanwhile. What is
stored is counted before every change of it, and at the end of each day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from cluster.ids import IdentityName, TenantId
from cluster.state import keys, scripts
from cluster.state.link import RedisLink

_EPOCH = date(1970, 1, 1)
_DAY_S = 86_400
_AT_ONCE = 200
_RECORDINGS = ""  # whose storage belongs to no identity


@dataclass(frozen=True, kw_only=True)
class UsageRow:
    """What a tenant used on one day (UTC) for one identity.

    Args:
        day: the day.
        identity: for whom; None for recordings, which belong to no identity.
        num_renders: renders that were done.
        rendered_s: seconds of their videos.
        num_fits: fits that were done.
        fitted_s: seconds that the workers took that made their versions.
        stored_mb_days: MB (a million bytes) stored for a whole day.
    """

    day: date
    identity: IdentityName | None
    num_renders: int
    rendered_s: float
    num_fits: int
    fitted_s: float
    stored_mb_days: float


class UsageTable:
    """What was used. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink):
        self._link = link

    def page(
        self,
        tenant: TenantId,
        first: date,
        last: date,
        *,
        identity: IdentityName | None = None,
        after: str = "",
        limit: int = 100,
    ) -> tuple[list[UsageRow], str | None]:
        """Some of what was used on some days, the oldest first, and where the next page begins.

        Args:
            tenant: who used it.
            first: the first day.
            last: the last day, this one included.
            identity: only what was used for it.
            after: what the page before gave; empty for the first.
            limit: how many at most.
        """
        begins, _, name = after.partition(".")
        seen = f"({name}" if after else "-"  # of the first day: names up to here were on the page before
        low = max(number_of(first), int(begins or 0))
        days = self._link.call("ZRANGEBYSCORE", keys.usage_days(tenant), low, number_of(last))
        rows: list[UsageRow] = []
        for day in map(int, days):
            start = seen if after and day == int(begins) else "-"
            rows += self._of_day(tenant, day, start, identity, limit + 1 - len(rows))
            if len(rows) > limit:
                end = rows[limit - 1]
                return rows[:limit], f"{number_of(end.day)}.{end.identity or _RECORDINGS}"
        return rows, None

    def _of_day(
        self, tenant: TenantId, day: int, start: str, identity: IdentityName | None, limit: int
    ) -> list[UsageRow]:
        used, named = keys.usage(tenant, day)
        if identity is None:
            names = self._link.call("ZRANGEBYLEX", named, start, "+", "LIMIT", 0, limit)
        else:
            start = f"[{identity}" if start == "-" or start[1:] < str(identity) else start
            names = self._link.call("ZRANGEBYLEX", named, start, f"[{identity}")
        if not names:
            return []
        words = ("renders", "rendered_s", "fits", "fitted_s", "stored_mb_s")
        found = self._link.call("HMGET", used, *(f"{name}|{word}" for name in names for word in words))
        values = [float(text or 0) for text in found]
        amounts = [dict(zip(words, values[i : i + len(words)], strict=True)) for i in range(0, len(values), len(words))]
        return [_row(day, name, of_one) for name, of_one in zip(names, amounts, strict=True)]

    # -- for the keeper ---------------------------------------------------------------------------------------

    def count_storage(self, tenant: TenantId, before: date) -> None:
        """Count what is stored up to the beginning of a day. Safe to repeat."""
        till_us = number_of(before) * _DAY_S * 10**6
        names, start = [_RECORDINGS], "-"
        while names:
            self._link.run(scripts.USE_STORAGE, [], [str(tenant), till_us, *names])
            names = self._link.call("ZRANGEBYLEX", keys.identities(tenant), start, "+", "LIMIT", 0, _AT_ONCE)
            start = f"({names[-1]}" if names else start

    def forget(self, tenant: TenantId, before: date) -> None:
        """Forget what was used on the days before one."""
        self._link.run(scripts.FORGET_USAGE, [], [str(tenant), number_of(before)])


def number_of(day: date) -> int:
    """A day as the store counts it: days since 1970."""
    return (day - _EPOCH).days


def today() -> date:
    """The day that it is, in UTC."""
    return datetime.now(UTC).date()


def _row(day: int, name: str, amounts: Mapping[str, float]) -> UsageRow:
    return UsageRow(
        day=_EPOCH + timedelta(days=day),
        identity=IdentityName(name) if name else None,
        num_renders=round(amounts["renders"]),
        rendered_s=amounts["rendered_s"],
        num_fits=round(amounts["fits"]),
        fitted_s=amounts["fitted_s"],
        stored_mb_days=amounts["stored_mb_s"] / _DAY_S,
    )
