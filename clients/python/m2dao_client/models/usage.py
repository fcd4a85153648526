"""Bodies of the API: usage.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from datetime import date

from m2dao_client.models.base import Model


class Usage(Model):
    """What was used on one day for one identity."""

    day: date
    """In UTC."""
    identity: str | None
    """For whom; null: recordings, which belong to no identity."""
    num_renders: int
    """Renders that were done."""
    rendered_s: float
    """Seconds of their videos."""
    num_fits: int
    """Fits that were done."""
    fitted_s: float
    """Seconds that the workers took that made their versions."""
    stored_mb_days: float
    """MB (a million bytes) stored for a day; complete when the day is over."""


class UsageList(Model):
    """What the tenant used, the oldest day first."""

    usage: list[Usage]
    next: str | None
    """Where the next page begins: ask again with `after` set to it. null: no more."""
