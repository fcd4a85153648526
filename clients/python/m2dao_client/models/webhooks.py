"""Bodies of the API: webhooks.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from m2dao_client.models.base import Model


class Delivery(Model):
    """One event that a webhook was or is to be told."""

    id: str
    """The header `webhook-id`, the same at every try."""
    type: str
    at: datetime
    """When it happened."""
    data: dict[str, Any]
    state: Literal["waiting", "delivered", "dead"]
    """`dead`: it was tried for two days and more, in vain."""
    num_tries: int
    tried_at: datetime | None
    """When the last try ended; null: it was not tried."""
    status: int | None
    """The HTTP status of the last try; null: there was no answer."""
    detail: str
    """Why the last try failed."""


class DeliveryList(Model):
    """What a webhook was or is to be told, the newest first."""

    deliveries: list[Delivery]
    next: str | None
    """Where the next page begins: ask again with `after` set to it. null: no more."""


class MadeWebhook(Model):
    """A webhook with its secret, which is shown now and never again."""

    id: str
    url: str
    events: list[str]
    """Which events it is told of; empty: all."""
    note: str
    created_at: datetime
    num_dropped: int
    """Events that it was never told, for 10,000 others waited already."""
    secret: str
    """What signs. Give it to a library for Standard Webhooks."""


class Webhook(Model):
    """A webhook, without its secret."""

    id: str
    url: str
    events: list[str]
    """Which events it is told of; empty: all."""
    note: str
    created_at: datetime
    num_dropped: int
    """Events that it was never told, for 10,000 others waited already."""


class WebhookList(Model):
    """Webhooks of the tenant, the oldest first."""

    webhooks: list[Webhook]
    next: None = None
    """Always null: they fit on one page."""
