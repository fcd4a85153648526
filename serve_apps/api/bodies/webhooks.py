"""Bodies of the routes about webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from serve_apps.api.schemas import Body

EventName = Literal[
    "render.done",
    "render.failed",
    "render.cancelled",
    "fit.stage",
    "fit.done",
    "fit.failed",
    "fit.cancelled",
    "champion.moved",
    "recording.ready",
    "recording.refused",
]
DeliveryState = Literal["waiting", "delivered", "dead"]
_DAYS_30_S = 30 * 86400


class NewWebhook(Body):
    """A webhook to be made."""

    url: str = Field(
        min_length=1,
        max_length=2000,
        description="Where to: `https://`, a host with public addresses, neither user nor fragment.",
        examples=["https://platform.example/hooks/avatars"],
    )
    events: list[EventName] = Field(
        default=[], max_length=20, description="Which events it is told of; all, also those to come, when empty."
    )
    note: str = Field(default="", max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$", description="A note for the list.")


class SecretRotation(Body):
    """How a secret is replaced."""

    overlap_s: int = Field(
        default=86_400, ge=0, le=_DAYS_30_S, description="Seconds for which the old secret signs beside the new one."
    )


class WebhookBody(Body):
    """A webhook, without its secret."""

    id: str = Field(examples=["wh-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4"])
    url: str
    events: list[str] = Field(description="Which events it is told of; empty: all.")
    note: str
    created_at: datetime
    num_dropped: int = Field(description="Events that it was never told, for 10,000 others waited already.")


class MadeWebhook(WebhookBody):
    """A webhook with its secret, which is shown now and never again."""

    secret: str = Field(description="What signs. Give it to a library for Standard Webhooks.")


class WebhookList(Body):
    """Webhooks of the tenant, the oldest first."""

    webhooks: list[WebhookBody]
    next: None = Field(default=None, description="Always null: they fit on one page.")


class DeliveryBody(Body):
    """One event that a webhook was or is to be told."""

    id: str = Field(description="The header `webhook-id`, the same at every try.")
    type: str = Field(examples=["render.done"])
    at: datetime = Field(description="When it happened.")
    data: dict[str, Any]
    state: DeliveryState = Field(description="`dead`: it was tried for two days and more, in vain.")
    num_tries: int
    tried_at: datetime | None = Field(description="When the last try ended; null: it was not tried.")
    status: int | None = Field(description="The HTTP status of the last try; null: there was no answer.")
    detail: str = Field(description="Why the last try failed.")


class DeliveryList(Body):
    """What a webhook was or is to be told, the newest first."""

    deliveries: list[DeliveryBody]
    next: str | None = Field(description="Where the next page begins: ask again with `after` set to it. null: no more.")
