"""Webhooks: addresses of yours that are told of events."""

from __future__ import annotations

from typing import Literal, Unpack

from m2dao_client.models import Delivery, DeliveryList, MadeWebhook, Webhook, WebhookList
from m2dao_client.models.requests import NewWebhook, SecretRotation
from m2dao_client.paths import path_of
from m2dao_client.resource import Awaited, Blocking, Resource, iteration, operation
from m2dao_client.session import new_key
from m2dao_client.steps import Call, Items

State = Literal["waiting", "delivered", "dead"]


def _path(webhook_id: str, *more: str) -> str:
    return path_of("v1", "webhooks", webhook_id, *more)


class WebhookOperations(Resource):
    """What can be done with webhooks."""

    @operation
    def create(self, *, once: str | None = None, **new: Unpack[NewWebhook]) -> Call[MadeWebhook]:
        """Have an address told of events. Its secret is in the answer and nowhere else."""
        request = self._session.request("POST", "/v1/webhooks", once=once or new_key(), json=new)
        return self._session.body(MadeWebhook, (yield from self._session.send(request)))

    @iteration
    def list(self) -> Items[Webhook]:
        """All your webhooks, the oldest first."""
        yield from self._session.items(WebhookList, "/v1/webhooks", lambda page: page.webhooks)

    @operation
    def get(self, webhook_id: str) -> Call[Webhook]:
        """One webhook, without its secret."""
        return (yield from self._session.get(Webhook, _path(webhook_id)))

    @operation
    def delete(self, webhook_id: str) -> Call[None]:
        """Tell an address no more."""
        yield from self._session.send(self._session.request("DELETE", _path(webhook_id)))

    @operation
    def rotate(self, webhook_id: str, *, once: str | None = None, **how: Unpack[SecretRotation]) -> Call[MadeWebhook]:
        """Make another secret; both sign for the overlap."""
        request = self._session.request("POST", _path(webhook_id, "rotate"), once=once or new_key(), json=how)
        return self._session.body(MadeWebhook, (yield from self._session.send(request)))

    @iteration
    def deliveries(self, webhook_id: str, *, state: State | None = None) -> Items[Delivery]:
        """What a webhook was or is to be told, the newest first."""
        path = _path(webhook_id, "deliveries")
        yield from self._session.items(DeliveryList, path, lambda page: page.deliveries, state=state)

    @operation
    def delivery(self, webhook_id: str, delivery_id: str) -> Call[Delivery]:
        """One event that a webhook was or is to be told."""
        return (yield from self._session.get(Delivery, _path(webhook_id, "deliveries", delivery_id)))

    @operation
    def replay(self, webhook_id: str, delivery_id: str) -> Call[Delivery]:
        """Tell an event again, at once, under the same `webhook-id`."""
        path = _path(webhook_id, "deliveries", delivery_id, "replay")
        request = self._session.request("POST", path, repeatable=True)
        return self._session.body(Delivery, (yield from self._session.send(request)))


class Webhooks(WebhookOperations, Blocking):
    """Webhooks, for code that waits."""


class AsyncWebhooks(WebhookOperations, Awaited):
    """Webhooks, for code with an event loop."""
