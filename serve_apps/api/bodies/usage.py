"""Bodies of the routes about what tenants used."""

from __future__ import annotations

from datetime import date as Day

from pydantic import Field

from serve_apps.api.schemas import Body


class UsageBody(Body):
    """What was used on one day for one identity."""

    day: Day = Field(description="In UTC.")
    identity: str | None = Field(description="For whom; null: recordings, which belong to no identity.")
    num_renders: int = Field(description="Renders that were done.")
    rendered_s: float = Field(description="Seconds of their videos.")
    num_fits: int = Field(description="Fits that were done.")
    fitted_s: float = Field(description="Seconds that the workers took that made their versions.")
    stored_mb_days: float = Field(description="MB (a million bytes) stored for a day; complete when the day is over.")


class UsageList(Body):
    """What the tenant used, the oldest day first."""

    usage: list[UsageBody]
    next: str | None = Field(description="Where the next page begins: ask again with `after` set to it. null: no more.")
