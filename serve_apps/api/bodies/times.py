"""Times as the API shows them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, overload

from pydantic import AfterValidator, BeforeValidator

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@overload
def utc(unix_s: float) -> datetime: ...


@overload
def utc(unix_s: None) -> None: ...


@overload
def utc(unix_s: float | None) -> datetime | None: ...


def utc(unix_s: float | None) -> datetime | None:
    """A Unix time as a date; None stays None."""
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC)


def _as_written(text: str) -> str:
    if not _DAY.fullmatch(text):  # pydantic takes numbers of seconds too
        raise ValueError("write a day as 2026-12-31")
    return text


Day = Annotated[date, BeforeValidator(_as_written)]
"""A day in a query."""


def _with_zone(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("say the time zone, as in 2026-12-31T12:00:00Z")
    return moment


def _as_dated(text: str) -> str:
    if not _DAY.match(text):  # pydantic takes numbers of seconds too
        raise ValueError("write a time as 2026-12-31T12:00:00Z")
    return text


Moment = Annotated[datetime, BeforeValidator(_as_dated), AfterValidator(_with_zone)]
"""A time in a query."""
