"""``/v1/webhooks``: addresses of the tenant that are told of events."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from cluster.ids import DeliveryId, WebhookId
from cluster.platform import Platform
from cluster.state.resources.webhooks import Delivery, Webhook, unknown_webhook
from cluster.webhooks.addresses import endpoint_of
from m2dao.errors import InvalidId
from serve_apps.api.authentication import IdempotencyKey, Operator, once_of
from serve_apps.api.bodies.json_body import body_of, json_body
from serve_apps.api.bodies.queries import Limit
from serve_apps.api.bodies.times import utc
from serve_apps.api.bodies.webhooks import (
    DeliveryBody,
    DeliveryList,
    DeliveryState,
    MadeWebhook,
    NewWebhook,
    SecretRotation,
    WebhookBody,
    WebhookList,
)
from serve_apps.api.openapi import made, made_with_secret, problem_responses
from serve_apps.api.services import ServicesOf

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


async def _platform(services: ServicesOf) -> Platform:
    return services.platform


async def _webhook_id(webhook_id: str) -> WebhookId:
    try:
        return WebhookId.parse(webhook_id)
    except InvalidId as error:
        raise unknown_webhook() from error


async def _delivery_id(webhook_id: str, delivery_id: str) -> DeliveryId:
    try:
        found = DeliveryId.parse(delivery_id)
    except InvalidId as error:
        raise unknown_webhook() from error
    if str(found.webhook) != webhook_id:
        raise unknown_webhook()
    return found


Services = Annotated[Platform, Depends(_platform)]
Named = Annotated[WebhookId, Depends(_webhook_id)]
NamedDelivery = Annotated[DeliveryId, Depends(_delivery_id)]


@router.post(
    "",
    status_code=201,
    operation_id="createWebhook",
    response_model=MadeWebhook,
    openapi_extra=body_of(NewWebhook),
    responses={**made(), **problem_responses(400, 401, 408, 409, 413, 415, 422, 429)},
)
def create_webhook(
    response: Response,
    tenant: Operator,
    platform: Services,
    new: Annotated[NewWebhook, json_body(NewWebhook)],
    idempotency_key: IdempotencyKey = None,
) -> MadeWebhook:
    """Have an address told of events. Its secret is in this answer and nowhere else."""
    settings = platform.settings.webhooks
    endpoint_of(new.url, allow_private=settings.allow_private)  # refuses what cannot be told
    webhook = platform.state.webhooks.make(
        tenant,
        new.url,
        sorted(set(new.events)),
        note=new.note,
        most=settings.max_per_tenant,
        once=once_of(idempotency_key),
    )
    return _with_secret(webhook, response)


@router.get("", operation_id="listWebhooks", response_model=WebhookList, responses=problem_responses(401, 422, 429))
def list_webhooks(tenant: Operator, platform: Services) -> WebhookList:
    """Your webhooks, the oldest first, without their secrets."""
    return WebhookList(webhooks=[WebhookBody(**_fields(each)) for each in platform.state.webhooks.all(tenant)])


@router.get(
    "/{webhook_id}", operation_id="getWebhook", response_model=WebhookBody, responses=problem_responses(401, 404, 429)
)
def get_webhook(tenant: Operator, platform: Services, webhook_id: Named) -> WebhookBody:
    """One webhook, without its secret."""
    return WebhookBody(**_fields(platform.state.webhooks.get(tenant, webhook_id)))


@router.delete(
    "/{webhook_id}",
    status_code=204,
    operation_id="deleteWebhook",
    responses={204: {"description": "It is told no more."}, **problem_responses(401, 404, 429)},
)
def delete_webhook(tenant: Operator, platform: Services, webhook_id: Named) -> None:
    """Tell an address no more. What it was told, or was to be told, is forgotten."""
    platform.state.webhooks.delete(tenant, webhook_id)


@router.post(
    "/{webhook_id}/rotate",
    operation_id="rotateWebhookSecret",
    response_model=MadeWebhook,
    openapi_extra=body_of(SecretRotation),
    responses=problem_responses(400, 401, 404, 408, 413, 415, 422, 429),
)
def rotate_webhook_secret(
    response: Response,
    tenant: Operator,
    platform: Services,
    webhook_id: Named,
    how: Annotated[SecretRotation, json_body(SecretRotation)],
    idempotency_key: IdempotencyKey = None,
) -> MadeWebhook:
    """Make another secret. Both sign for the overlap, then the new one alone."""
    once = once_of(idempotency_key)
    return _with_secret(
        platform.state.webhooks.rotate(tenant, webhook_id, overlap_s=how.overlap_s, once=once), response
    )


@router.get(
    "/{webhook_id}/deliveries",
    operation_id="listDeliveries",
    response_model=DeliveryList,
    responses=problem_responses(401, 404, 422, 429),
)
def list_deliveries(
    tenant: Operator,
    platform: Services,
    webhook_id: Named,
    state: Annotated[DeliveryState | None, Query(description="Only those in this state.")] = None,
    limit: Limit = 20,
    after: Annotated[
        str, Query(pattern=r"^([0-9]{1,15})?$", description="`next` of the page before; the first: empty.")
    ] = "",
) -> DeliveryList:
    """What a webhook was or is to be told, the newest first. A short or empty page may have a `next`."""
    table = platform.state.webhooks
    table.get(tenant, webhook_id)
    found, following = table.deliveries(tenant, webhook_id, state=state, after=after, limit=limit)
    return DeliveryList(deliveries=[_delivery(each) for each in found], next=following)


@router.get(
    "/{webhook_id}/deliveries/{delivery_id}",
    operation_id="getDelivery",
    response_model=DeliveryBody,
    responses=problem_responses(401, 404, 429),
)
def get_delivery(tenant: Operator, platform: Services, delivery_id: NamedDelivery) -> DeliveryBody:
    """One event that a webhook was or is to be told."""
    return _delivery(platform.state.webhooks.delivery(tenant, delivery_id))


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/replay",
    status_code=202,
    operation_id="replayDelivery",
    response_model=DeliveryBody,
    responses=problem_responses(401, 404, 429),
)
def replay_delivery(tenant: Operator, platform: Services, delivery_id: NamedDelivery) -> DeliveryBody:
    """Tell an event again, at once, under the same `webhook-id`. Safe to repeat."""
    return _delivery(platform.state.webhooks.replay(tenant, delivery_id))


def _with_secret(webhook: Webhook, response: Response) -> MadeWebhook:
    made_with_secret(response, f"{router.prefix}/{webhook.id}")
    return MadeWebhook(secret=webhook.secrets[0], **_fields(webhook))


def _fields(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": str(webhook.id),
        "url": webhook.url,
        "events": list(webhook.events),
        "note": webhook.note,
        "created_at": utc(webhook.created_s),
        "num_dropped": webhook.num_dropped,
    }


def _delivery(delivery: Delivery) -> DeliveryBody:
    return DeliveryBody(
        id=str(delivery.id),
        type=delivery.type,
        at=utc(delivery.at_s),
        data=json.loads(delivery.data),
        state=delivery.state,  # type: ignore[arg-type]  # checked by the schema
        num_tries=delivery.num_tries,
        tried_at=utc(delivery.tried_s),
        status=delivery.status,
        detail=delivery.detail,
    )
