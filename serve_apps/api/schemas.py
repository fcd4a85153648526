"""Bodies of the API: responses, and the form of ``POST /v1/renders`` as OpenAPI sees it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RenderStatus = Literal["queued", "running", "done", "failed", "cancelled"]


class Body(BaseModel):
    """What the bodies of the API have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldFault(Body):
    """One fault of a request."""

    field: str = Field(description="Where: the form field, parameter or header.")
    detail: str = Field(description="What is wrong with it.")


class Problem(Body):
    """Every error answer (RFC 9457)."""

    type: str = Field(description="`urn:m2dao:problem:<code>`, stable.", examples=["urn:m2dao:problem:unknown-render"])
    title: str = Field(description="What the code means.")
    status: int = Field(description="The HTTP status.")
    detail: str | None = Field(default=None, description="What happened in this case.")
    errors: list[FieldFault] | None = Field(default=None, description="The single faults of an invalid request.")
    request_id: str | None = Field(default=None, description="The request, as our logs name it; also `X-Request-Id`.")


class RenderFigures(Body):
    """What was measured while rendering."""

    num_frames: int = Field(description="Frames of the video.")
    seconds: float = Field(description="Length of the video in seconds.")
    render_seconds: float = Field(description="Time from the worker's start to the stored result, in seconds.")
    real_time_factor: float = Field(description="render_seconds / seconds; below 1 is faster than real time.")
    load_seconds: float = Field(description="Part of render_seconds spent on loading the identity.")
    width: int = Field(description="Pixels.")
    height: int = Field(description="Pixels.")


class RenderResult(Body):
    """The finished video."""

    url: str = Field(description="Presigned: works without an API key until it expires, for GET. Plays in a page.")
    expires_at: datetime = Field(description="When the URL stops working. Ask again for a fresh one.")
    num_bytes: int = Field(description="Size of the file.")
    sha256: str = Field(description="Hash of the file.")
    media_type: Literal["video/mp4"] = "video/mp4"


class Render(Body):
    """A render: one video of an identity speaking the uploaded audio."""

    id: str = Field(examples=["r-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4"])
    status: RenderStatus
    stage: str = Field(description="What is being done now.", examples=["rendering"])
    progress: float = Field(ge=0, le=1, description="0 to 1.")
    identity: str = Field(description="As asked for.", examples=["anna@champion"])
    version: int = Field(description="The version it was pinned to when the render was created.")
    background: str = Field(description="`plate`, `#rrggbb` or `image`.")
    audio_seconds: float = Field(description="Length of the speech.")
    attempt: int = Field(description="How many times a worker has started it.")
    created_at: datetime
    updated_at: datetime
    figures: RenderFigures | None = Field(default=None, description="When done.")
    result: RenderResult | None = Field(default=None, description="When done.")
    error: dict[str, Any] | None = Field(default=None, description="When failed: a problem document.")


class RenderList(Body):
    """Renders of the tenant, the newest first."""

    renders: list[Render]
    next: str | None = Field(
        default=None, description="Where the next page begins: ask again with `after` set to it. null: no more."
    )


class Identity(Body):
    """A fitted person."""

    identity: str = Field(examples=["anna"])
    champion: int | None = Field(description="The version that `anna` and `anna@champion` mean; null: none promoted.")
    versions: list[int] = Field(description="All versions, ascending.")


class IdentityList(Body):
    """Identities of the tenant."""

    identities: list[Identity]
    next: str | None = Field(description="Where the next page begins: ask again with `after` set to it. null: no more.")


class Readiness(Body):
    """How the services behind the API are."""

    status: Literal["ok", "degraded", "maintenance"] = Field(
        description="`degraded`: renders go on, but something else does not. "
        "`maintenance`: nothing new is accepted, and everything can be read."
    )
    degraded: list[str] = Field(description="What does not answer.", examples=[["model registry"]])


class Health(Body):
    """An answer of the health routes."""

    status: Literal["ok"]


_FORM = {
    "type": "object",
    "required": ["audio", "identity"],
    "additionalProperties": False,
    "properties": {
        "audio": {
            "type": "string",
            "format": "binary",
            "description": "Speech: WAV, MP3, M4A, FLAC, Ogg or any file with a sound track.",
        },
        "identity": {
            "type": "string",
            "minLength": 1,
            "maxLength": 100,
            "description": "`anna` (its champion), `anna@champion`, `anna@7`.",
            "examples": ["anna", "anna@champion", "anna@7"],
        },
        "background": {
            "type": "string",
            "pattern": "^(plate|#[0-9a-fA-F]{6})$",
            "default": "plate",
            "description": "`plate`: the background of the recording; `#rrggbb`: one colour.",
        },
        "background_image": {
            "type": "string",
            "format": "binary",
            "description": "A JPEG, PNG or WebP behind the person, cropped to fill the frame. Instead of `background`.",
        },
    },
}
CREATE_RENDER_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}
