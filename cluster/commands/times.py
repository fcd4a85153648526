"""Times as commands print them."""

from __future__ import annotations

from datetime import UTC, datetime


def minute(unix_s: float | None, otherwise: str = "never") -> str:
    """A Unix time to the minute, in UTC."""
    return otherwise if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M")
