"""Bodies of the API: fits.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from m2dao_client.models.base import Model


class FitResult(Model):
    """What a fit has made."""

    version: int
    metrics: dict[str, float]
    promoted: bool | None
    """Whether it became the champion; null: that was not asked for."""
    detail: str
    """Why it was not promoted."""


class Picture(Model):
    """A picture of a fit."""

    name: str
    """`contact_sheet.jpg`: what the person was seen doing. `strip.jpg`: recording, render."""
    url: str
    """Without an API key."""
    updated_at: datetime
    expires_at: datetime
    """When the URL stops working. Ask again for a fresh one."""


class Fit(Model):
    """A fit: the way from a recording to a version of an identity."""

    id: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    stage: str
    """What is done now: `fetch`, `prepare`, `fit`, `evaluate`, `register`; else `status`."""
    detail: str
    """The same more closely: step, phase, loss and picture quality so far."""
    progress: float
    """0 to 1."""
    time_left_s: float | None
    """Until the stage `fit` is done, about; null where nobody can tell."""
    metrics: dict[str, float]
    """Of the last step told: `step`, `loss`, `psnr_db`. Empty before."""
    pictures: list[Picture] = []
    """How it looks so far. Not in lists; gone a day after the end."""
    identity: str
    recording_sha256: str
    size: int
    recipe: str
    minutes: float | None
    priority: Literal["low", "normal", "high"]
    attempt: int
    """How many times a worker has started it."""
    created_at: datetime
    updated_at: datetime
    result: FitResult | None = None
    """When done."""
    error: dict[str, Any] | None = None
    """When failed: a problem document."""


class FitList(Model):
    """Fits of the tenant, the newest first."""

    fits: list[Fit]
    next: str | None
    """Where the next page begins: ask again with `after` set to it. null: no more."""
