"""Batches: one wish for many identities of a tenant, done in waves.

A batch is ``running``, ``paused`` after failures or by wish, ``cancelling`` while its open items are ended, and then
``done`` or ``cancelled``. Each change is one script, so a keeper that is killed leaves a batch that the next goes on
with.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster.ids import BatchId, TenantId
from cluster.state import keys, scripts
from cluster.state.link import RedisLink
from cluster.state.new_jobs import IDEMPOTENCY_S, idempotency_conflict, idempotency_digest
from cluster.state.records import fields_of
from cluster.state.upkeep.maintenance import under_maintenance
from m2dao.errors import Conflict, NotFound, QuotaExceeded, UnknownTenant

KINDS = ("fit", "judge", "migrate")
ENDED = ("done", "cancelled")
ITEM_ENDED = ("done", "failed", "cancelled")
_KEPT_S = 7 * 24 * 3600


class UnknownBatch(NotFound):
    """There is no such batch."""

    code = "unknown-batch"


@dataclass(frozen=True, kw_only=True)
class BatchTerms:
    """What is the same for all items.

    Args:
        wave: items that are begun together; the next wave begins when they have ended.
        max_failed: the batch pauses when more have failed.
        promote: whether versions that pass the gate become champions.
        options: of fits, as ``FitOptions.as_dict`` gives them; empty for those of each champion.
        priority: of fits.
    """

    wave: int
    max_failed: int
    promote: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0


@dataclass(frozen=True, kw_only=True)
class BatchItem:
    """One identity of a batch.

    Args:
        identity: its name.
        recording_sha256, recording_name: of what is fitted.
        consent: who said that the person consents.
        version: which one is judged or migrated; None for the newest, or the champion.
        status: "waiting", "begun", "done", "failed" or "cancelled".
        tries: how often it was begun; names what it has begun.
        job: the fit that does it.
        detail: how it ended.
    """

    identity: str
    recording_sha256: str = ""
    recording_name: str = ""
    consent: str | None = None
    version: int | None = None
    status: str = "waiting"
    tries: int = 0
    job: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class BatchRecord:
    """A batch as it was when it was read; ``items`` only where they were asked for."""

    id: BatchId
    tenant: TenantId
    kind: str
    status: str
    terms: BatchTerms
    forgiven: int  # failures before it was resumed
    reason: str  # why it is paused
    created_s: float
    updated_s: float
    items: tuple[BatchItem, ...] = ()

    @property
    def counts(self) -> Counter[str]:
        """How many items are in each state."""
        return Counter(item.status for item in self.items)

    @property
    def cursor(self) -> str:
        """Where a list goes on after it."""
        return f"{self.created_s * 1e6:.0f}"


class BatchTable:
    """The batches of all tenants. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink):
        self._link = link

    def create(
        self,
        tenant: TenantId,
        kind: str,
        terms: BatchTerms,
        items: Sequence[BatchItem],
        *,
        key: str | None = None,
        most_open: int = 10,
    ) -> BatchRecord:
        """Keep a batch; the keeper begins with it at once.

        Args:
            key: the client's own name for this request.
            most_open: batches that a tenant may have open.

        Raises:
            IdempotencyConflict: the key was used for another request.
            QuotaExceeded: too many batches are open.
            UnderMaintenance: nothing new is accepted.
            UnknownTenant: there is no such tenant.
        """
        batch_id = BatchId.new()
        names = [
            *_keys(tenant, batch_id)[:2],
            keys.batches(tenant),
            keys.OPEN_BATCHES,
            keys.TENANTS,
            "" if key is None else keys.idempotency(tenant, idempotency_digest("batch", key)),
        ]
        about, texts = json.dumps(asdict(terms), sort_keys=True), [_text(item) for item in items]
        fingerprint = hashlib.sha256(json.dumps([kind, about, texts]).encode()).hexdigest()
        words = [str(batch_id), str(tenant), kind, about, fingerprint, IDEMPOTENCY_S, most_open, *texts]
        outcome, *found = self._link.run(scripts.CREATE_BATCH, names, words)
        if outcome == "conflict":
            raise idempotency_conflict()
        if outcome == "maintenance":
            raise under_maintenance()
        if outcome == "busy":
            raise QuotaExceeded("batches", f"at most {most_open} that are open", "one more", "wait, or cancel one")
        if outcome == "no-tenant":
            raise UnknownTenant(f"tenant {tenant}", "a tenant", "none of that name", "create it first")
        return self.get(tenant, BatchId.parse(fields_of(found[0])["id"]))

    def get(self, tenant: TenantId, batch_id: BatchId) -> BatchRecord:
        """A batch with its items.

        Raises:
            UnknownBatch: there is none, or it is another tenant's.
        """
        fields, items = self._link.hashes(list(_keys(tenant, batch_id)[:2]))
        if "id" not in fields:
            raise _unknown(batch_id)
        return _record(fields, [items[str(number)] for number in range(len(items))])

    def page(self, tenant: TenantId, *, after: str = "", limit: int = 20) -> tuple[list[BatchRecord], str | None]:
        """A page of batches, the newest first, and where the next page begins.

        Args:
            after: what the page before gave; empty for the first.
        """
        newest = f"({after}" if after else "+inf"
        ids = self._link.call("ZREVRANGEBYSCORE", keys.batches(tenant), newest, "-inf", "LIMIT", 0, limit)
        records = []
        for text in ids:
            fields, items = self._link.hashes(list(_keys(tenant, BatchId.parse(text))[:2]))
            if "id" in fields:
                records.append(_record(fields, list(items.values())))
        return records, records[-1].cursor if len(ids) == limit and records else None

    def open(self) -> list[tuple[TenantId, BatchId]]:
        """The batches of all tenants that have not ended."""
        pairs = (text.split(" ") for text in sorted(self._link.call("SMEMBERS", keys.OPEN_BATCHES)))
        return [(TenantId(tenant), BatchId.parse(batch_id)) for tenant, batch_id in pairs]

    def pass_over(self, tenant: TenantId, batch_id: BatchId) -> None:
        """Look no more at a batch that is not there: its tenant was deleted."""
        self._link.call("SREM", keys.OPEN_BATCHES, f"{tenant} {batch_id}")

    def note(self, record: BatchRecord, items: Mapping[int, BatchItem]) -> None:
        """Note what became of items, by their numbers."""
        self._update(record, items, "", "", "", None)

    def move(
        self,
        record: BatchRecord,
        states: str,
        to: str,
        *,
        reason: str = "",
        forgiven: int | None = None,
        items: Mapping[int, BatchItem] | None = None,
    ) -> BatchRecord:
        """Take a batch from one of some states to another, and note what became of items.

        Raises:
            Conflict: it is in another state.
            UnknownBatch: it is gone.
        """
        outcome = self._update(record, items or {}, states, to, reason, forgiven)
        if outcome != "moved":
            expected = f"one that is {states.replace(' ', ' or ')}"
            raise Conflict(f"batch {record.id}", expected, f"one that is {outcome}", "look at it again")
        return self.get(record.tenant, record.id)

    def _update(
        self,
        record: BatchRecord,
        items: Mapping[int, BatchItem],
        states: str,
        to: str,
        reason: str,
        forgiven: int | None,
    ) -> str:
        words = [str(record.tenant), str(record.id), states, to, reason, "" if forgiven is None else forgiven, _KEPT_S]
        for number, item in items.items():
            words += [number, _text(item)]
        outcome = self._link.run(scripts.UPDATE_BATCH, list(_keys(record.tenant, record.id)), words)[0]
        if outcome == "unknown":
            raise _unknown(record.id)
        return str(outcome)


def _keys(tenant: TenantId, batch_id: BatchId) -> tuple[str, str, str]:
    return keys.batch(tenant, batch_id), keys.batch_items(tenant, batch_id), keys.OPEN_BATCHES


def _text(item: BatchItem) -> str:
    return json.dumps(asdict(item), sort_keys=True)


def _record(fields: Mapping[str, str], items: Sequence[str]) -> BatchRecord:
    return BatchRecord(
        id=BatchId.parse(fields["id"]),
        tenant=TenantId(fields["tenant"]),
        kind=fields["kind"],
        status=fields["status"],
        terms=BatchTerms(**json.loads(fields["terms"])),
        forgiven=int(fields["forgiven"]),
        reason=fields["reason"],
        created_s=int(fields["created"]) / 1e6,
        updated_s=int(fields["updated"]) / 1e6,
        items=tuple(BatchItem(**json.loads(text)) for text in items),
    )


def _unknown(batch_id: BatchId) -> UnknownBatch:
    return UnknownBatch(f"batch {batch_id}", "a batch", "none of that id")
