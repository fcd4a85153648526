"""Webhooks: addresses that are told of events, and all that they were told or are to be told.

Scripts put events into the outboxes of webhooks in the very step that makes them true (``scripts/outbox.lua``). The
keeper claims what is due. A claim ends by itself, so a keeper that dies has lost nothing: the delivery is due again,
under the same id.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.ids import DeliveryId, TenantId, WebhookId
from cluster.state import keys, scripts
from cluster.state.link import RedisLink, new_nonce
from cluster.state.new_jobs import IDEMPOTENCY_S, Once, idempotency_conflict, idempotency_digest
from cluster.state.people.audit import AuditTrail
from m2dao.errors import Conflict, UnknownTenant, UnknownWebhook

_SECRET_PREFIX = "whsec_"  # as Standard Webhooks has it
_AT_ONCE = 200


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """An address that is told of events.

    Args:
        id: its name.
        tenant: whose events.
        url: where to.
        events: which events; all when empty.
        note: what its tenant noted.
        created_s: Unix time.
        num_dropped: events that it was never told, for too many waited.
        secrets: what signs now: the newest first, and the one before while both are good.
    """

    id: WebhookId
    tenant: TenantId
    url: str
    events: tuple[str, ...]
    note: str
    created_s: float
    num_dropped: int
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One event that one webhook was or is to be told.

    Args:
        id: the same for every try; what a receiver tells repetitions by.
        tenant: whose event.
        type: what happened, such as "render.done".
        at_s: when, as Unix time.
        data: what is told of it, as JSON.
        state: "waiting", "delivered" or "dead".
        num_tries: tries so far, the one under way included.
        num_failures: tries in a row that failed.
        tried_s: when the last try ended, as Unix time; None before the first.
        status: what the last try was answered; None when there was no answer.
        detail: why the last try failed.
    """

    id: DeliveryId
    tenant: TenantId
    type: str
    at_s: float
    data: str
    state: str
    num_tries: int
    num_failures: int
    tried_s: float | None
    status: int | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a try went.

    Args:
        state: "delivered", "failed" or "dead".
        status: the HTTP status of the answer; None without one.
        detail: what was wrong.
        wait_s: until the next try, after one that failed.
    """

    state: str
    status: int | None = None
    detail: str = ""
    wait_s: float = 0.0


class WebhookTable:
    """The webhooks of all tenants. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink, audit: AuditTrail):
        self._link, self._audit = link, audit

    # -- for those who ask ------------------------------------------------------------------------------------

    def make(
        self, tenant: TenantId, url: str, events: Sequence[str], *, note: str, most: int, once: Once | None = None
    ) -> Webhook:
        """Make a webhook. Asking again under the same name of the request answers with the same one.

        Raises:
            Conflict: the tenant has as many as it may have, or the one made under this name was deleted.
            IdempotencyConflict: another webhook was asked for under this name.
            UnknownTenant: there is no such tenant.
        """
        webhook_id = WebhookId.new()
        wanted = " ".join(sorted(events))
        names = [keys.webhook(tenant, webhook_id), keys.webhooks(tenant), keys.TENANTS, _entry("webhook", tenant, once)]
        words = [str(tenant), str(webhook_id), url, wanted, note, _new_secret(), most]
        words += [json.dumps([url, wanted, note]), IDEMPOTENCY_S, self._audit.signature()]
        outcome, made = self._link.run(scripts.CREATE_WEBHOOK, names, words)
        match outcome:
            case "made":
                return self.get(tenant, WebhookId(made))
            case "conflict":
                raise idempotency_conflict()
            case "full":
                raise Conflict("webhooks", f"at most {most} at a time", "one more", "delete one")
            case "gone":
                raise Conflict("webhook", "one that is there", "one that was deleted", "use a new idempotency key")
        raise UnknownTenant(f"tenant {tenant}", "a tenant", "none of that name", "create it first")

    def get(self, tenant: TenantId, webhook_id: WebhookId) -> Webhook:
        """One webhook.

        Raises:
            UnknownWebhook: there is none, or it is another tenant's.
        """
        (found,) = self._webhooks(tenant, [webhook_id])
        if found is None:
            raise unknown_webhook()
        return found

    def all(self, tenant: TenantId) -> list[Webhook]:
        """The webhooks of a tenant, the oldest first."""
        ids = [WebhookId(text) for text in self._link.call("ZRANGE", keys.webhooks(tenant), 0, -1)]
        return [webhook for webhook in self._webhooks(tenant, ids) if webhook is not None]

    def rotate(self, tenant: TenantId, webhook_id: WebhookId, *, overlap_s: int, once: Once | None = None) -> Webhook:
        """Give a webhook another secret; both sign for the overlap.

        Raises:
            UnknownWebhook: there is none, or it is another tenant's.
            IdempotencyConflict: something else was asked for under this name.
        """
        entry = _entry("webhook-secret", tenant, once) or keys.answer(new_nonce())
        words = [str(tenant), str(webhook_id), _new_secret(), overlap_s, f"{webhook_id} {overlap_s}", IDEMPOTENCY_S]
        outcome, _ = self._link.run(
            scripts.ROTATE_WEBHOOK, [keys.webhook(tenant, webhook_id), entry], [*words, self._audit.signature()]
        )
        if outcome == "unknown":
            raise unknown_webhook()
        if outcome == "conflict":
            raise idempotency_conflict()
        return self.get(tenant, webhook_id)

    def delete(self, tenant: TenantId, webhook_id: WebhookId) -> None:
        """Forget a webhook, with all that it was or was to be told.

        Raises:
            UnknownWebhook: there is none, or it is another tenant's.
        """
        names = [keys.webhook(tenant, webhook_id), keys.webhooks(tenant), keys.deliveries(tenant, webhook_id)]
        names += [keys.outbox(tenant, webhook_id), keys.OUTBOXES, keys.answer(new_nonce())]
        words = [str(tenant), str(webhook_id), self._audit.signature()]
        if self._link.run(scripts.DELETE_WEBHOOK, names, words) == "unknown":
            raise unknown_webhook()

    def delivery(self, tenant: TenantId, delivery_id: DeliveryId) -> Delivery:
        """One event that a webhook was or is to be told.

        Raises:
            UnknownWebhook: there is none, or it is another tenant's.
        """
        fields = self._link.hash(keys.delivery(tenant, delivery_id))
        if not fields:
            raise unknown_webhook()
        return _delivery(tenant, fields)

    def deliveries(
        self, tenant: TenantId, webhook_id: WebhookId, *, state: str | None, after: str = "", limit: int = 20
    ) -> tuple[list[Delivery], str | None]:
        """Some of what a webhook was or is to be told, the newest first, and where the next page begins.

        Args:
            tenant: whose events.
            webhook_id: the webhook.
            state: only those in this state. A page may be short then, even empty, and still have a next one.
            after: what the page before gave; empty for the first.
            limit: how many at most.
        """
        high = f"({after}" if after else "+inf"
        size = limit if state is None else _AT_ONCE
        names = self._link.call("ZREVRANGEBYSCORE", keys.deliveries(tenant, webhook_id), high, "-inf", "LIMIT", 0, size)
        found: list[Delivery] = []
        tables = self._link.hashes([keys.delivery(tenant, DeliveryId(name)) for name in names])
        for name, fields in zip(names, tables, strict=True):
            if fields and state in (None, fields["state"]):
                found.append(_delivery(tenant, fields))
            if len(found) == limit:
                return found, str(DeliveryId(name).number)
        return found, str(DeliveryId(names[-1]).number) if len(names) == size else None

    def replay(self, tenant: TenantId, delivery_id: DeliveryId) -> Delivery:
        """Have a webhook told again, at once, under the same id.

        Raises:
            UnknownWebhook: there is no such delivery, or it is another tenant's.
        """
        names = [keys.delivery(tenant, delivery_id), keys.outbox(tenant, delivery_id.webhook)]
        words = [str(tenant), str(delivery_id.webhook), str(delivery_id)]
        found = self._link.run(scripts.REPLAY_DELIVERY, names, words)
        if not found:
            raise unknown_webhook()
        return _delivery(tenant, dict(zip(found[::2], found[1::2], strict=True)))

    # -- for the keeper ---------------------------------------------------------------------------------------

    def due(self) -> Iterator[tuple[TenantId, WebhookId]]:
        """The webhooks with something to tell now, the longest due first."""
        now_us, start = self._now_us(), 0
        while True:
            found = self._link.call("ZRANGEBYSCORE", keys.OUTBOXES, "-inf", now_us, "LIMIT", start, _AT_ONCE)
            for text in found:
                tenant, _, webhook_id = text.partition(" ")
                yield TenantId(tenant), WebhookId(webhook_id)
            if len(found) < _AT_ONCE:
                return
            start += _AT_ONCE

    def claim(self, tenant: TenantId, webhook_id: WebhookId, *, claim_s: float) -> tuple[Webhook, Delivery] | None:
        """Take the next delivery of a webhook that is due. Unless settled, it is due again after ``claim_s``."""
        names = [keys.webhook(tenant, webhook_id), keys.outbox(tenant, webhook_id), keys.answer(new_nonce())]
        found = self._link.run(scripts.CLAIM_DELIVERY, names, [str(tenant), str(webhook_id), claim_s])
        if not found:
            return None
        delivery = _delivery(tenant, dict(zip(found[::2], found[1::2], strict=True)))
        (webhook,) = self._webhooks(tenant, [webhook_id])
        return None if webhook is None else (webhook, delivery)

    def settle(self, delivery: Delivery, outcome: Outcome, *, keep_s: float) -> None:
        """Note how a try went; nothing happens when another try has begun since, or the webhook is gone."""
        tenant, webhook_id = delivery.tenant, delivery.id.webhook
        names = [keys.delivery(tenant, delivery.id), keys.outbox(tenant, webhook_id)]
        words = [str(tenant), str(webhook_id), str(delivery.id), delivery.num_tries, outcome.state]
        words += ["" if outcome.status is None else outcome.status, outcome.detail, round(outcome.wait_s * 1e6)]
        self._link.run(scripts.SETTLE_DELIVERY, names, [*words, max(1, round(keep_s))])

    def _now_us(self) -> int:
        seconds, microseconds = self._link.call("TIME")
        return int(seconds) * 10**6 + int(microseconds)

    def _webhooks(self, tenant: TenantId, ids: Sequence[WebhookId]) -> list[Webhook | None]:
        now_us = self._now_us()
        tables = self._link.hashes([keys.webhook(tenant, webhook_id) for webhook_id in ids])
        return [_webhook(tenant, fields, now_us) if fields else None for fields in tables]


def unknown_webhook() -> UnknownWebhook:
    """The error about a webhook or delivery that is not there, or is another tenant's: always the same."""
    return UnknownWebhook("webhook", "one of the tenant's, or what it was told", "none of that id")


def _new_secret() -> str:
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _entry(kind: str, tenant: TenantId, once: Once | None) -> str:
    return "" if once is None else keys.idempotency(tenant, idempotency_digest(kind, once.key))


def _webhook(tenant: TenantId, fields: Mapping[str, str], now_us: int) -> Webhook:
    both = int(fields.get("old_until", 0)) > now_us
    return Webhook(
        id=WebhookId(fields["id"]),
        tenant=tenant,
        url=fields["url"],
        events=tuple(fields["events"].split()),
        note=fields["note"],
        created_s=int(fields["created"]) / 1e6,
        num_dropped=int(fields.get("dropped", 0)),
        secrets=(fields["secret"], fields["old_secret"]) if both else (fields["secret"],),
    )


def _delivery(tenant: TenantId, fields: Mapping[str, Any]) -> Delivery:
    return Delivery(
        id=DeliveryId(fields["id"]),
        tenant=tenant,
        type=fields["type"],
        at_s=int(fields["at"]) / 1e6,
        data=fields["data"],
        state=fields["state"],
        num_tries=int(fields["tries"]),
        num_failures=int(fields["failures"]),
        tried_s=int(fields["tried"]) / 1e6 if "tried" in fields else None,
        status=int(fields["status"]) if fields.get("status") else None,
        detail=fields.get("detail", ""),
    )
