"""Bodies of the API: recordings.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from m2dao_client.models.base import Model


class PartUrl(Model):
    """Where to send one part."""

    number: int
    """From 1."""
    num_bytes: int
    """The size that it must have."""
    url: str
    """PUT the bytes of the part here, without an API key."""


class StoredPart(Model):
    """A part that is in the store."""

    number: int
    num_bytes: int


class Upload(Model):
    """How far an upload is, and where to send the rest."""

    part_bytes: int
    """The size of every part but the last."""
    num_parts: int
    stored: list[StoredPart]
    """What the store has."""
    missing: list[PartUrl]
    """What it lacks, or has in another size."""
    urls_expire_at: datetime
    """When these URLs stop working. Ask again for fresh ones."""


class Recording(Model):
    """An uploaded video of a person."""

    id: str
    state: Literal["uploading", "checking", "ready", "refused"]
    name: str
    num_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None
    """When it is deleted; of an upload: when it is given up. null while it is looked into."""
    report: dict[str, Any] | None = None
    """When ready: its tracks, its length and what will be done with it, as `m2dao probe`."""
    error: dict[str, Any] | None = None
    """When refused: a problem document."""
    upload: Upload | None = None
    """Of a new recording: where to send its parts."""


class RecordingList(Model):
    """Recordings of the tenant, the newest first."""

    recordings: list[Recording]
    next: str | None
    """Where the next page begins: ask again with `after` set to it. null: no more."""
