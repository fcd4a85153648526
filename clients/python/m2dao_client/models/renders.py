"""Bodies of the API: renders.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from m2dao_client.models.base import Model


class RenderFigures(Model):
    """What was measured while rendering."""

    num_frames: int
    """Frames of the video."""
    seconds: float
    """Length of the video in seconds."""
    render_seconds: float
    """Time from the worker's start to the stored result, in seconds."""
    real_time_factor: float
    """render_seconds / seconds; below 1 is faster than real time."""
    load_seconds: float
    """Part of render_seconds spent on loading the identity."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""


class RenderResult(Model):
    """The finished video."""

    url: str
    """Presigned: works without an API key until it expires, for GET. Plays in a page."""
    expires_at: datetime
    """When the URL stops working. Ask again for a fresh one."""
    num_bytes: int
    """Size of the file."""
    sha256: str
    """Hash of the file."""
    media_type: Literal["video/mp4"] = "video/mp4"


class Render(Model):
    """A render: one video of an identity speaking the uploaded audio."""

    id: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    stage: str
    """What is being done now."""
    progress: float
    """0 to 1."""
    identity: str
    """As asked for."""
    version: int
    """The version it was pinned to when the render was created."""
    background: str
    """`plate`, `#rrggbb` or `image`."""
    audio_seconds: float
    """Length of the speech."""
    attempt: int
    """How many times a worker has started it."""
    created_at: datetime
    updated_at: datetime
    figures: RenderFigures | None = None
    """When done."""
    result: RenderResult | None = None
    """When done."""
    error: dict[str, Any] | None = None
    """When failed: a problem document."""


class RenderList(Model):
    """Renders of the tenant, the newest first."""

    renders: list[Render]
    next: str | None = None
    """Where the next page begins: ask again with `after` set to it. null: no more."""
