"""Times as the API shows them."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(unix_s: float | None) -> datetime | None:
    """A Unix time as a date; None stays None."""
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC)
