"""Times as the API shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload


@overload
def utc(unix_s: float) -> datetime: ...


@overload
def utc(unix_s: None) -> None: ...


@overload
def utc(unix_s: float | None) -> datetime | None: ...


def utc(unix_s: float | None) -> datetime | None:
    """A Unix time as a date; None stays None."""
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC)
