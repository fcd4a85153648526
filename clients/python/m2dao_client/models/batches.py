"""Bodies of the API: batches.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from m2dao_client.models.base import Model


class BatchItem(Model):
    """How far an item is."""

    identity: str
    status: Literal["waiting", "begun", "done", "failed", "cancelled"]
    fit: str | None
    """The fit that does it."""
    detail: str
    """How it ended: the version, or why not."""


class Batch(Model):
    """A batch: one wish for many identities, done in waves."""

    id: str
    kind: Literal["fit", "migrate", "judge"]
    status: Literal["running", "paused", "cancelling", "done", "cancelled"]
    reason: str
    """Why it is paused."""
    progress: float
    """Share of the items that have ended."""
    counts: dict[str, int]
    """Items by state."""
    wave: int
    max_failed: int
    promote: bool
    created_at: datetime
    updated_at: datetime
    items: list[BatchItem] = []
    """Not in lists."""


class BatchList(Model):
    """Batches of the tenant, the newest first."""

    batches: list[Batch]
    next: str | None
    """Where the next page begins: ask again with `after` set to it. null: no more."""
