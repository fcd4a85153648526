"""Batches as the API shows them, without HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, cast

from pydantic import Field

from cluster.control.champions import Champions
from cluster.control.fit_requests import MAX_CONSENT_CHARACTERS, PRIORITIES
from cluster.control.fleet.batches import Batches
from cluster.ids import BatchId, IdentityName, TenantId
from cluster.platform import Platform
from cluster.state.resources.batches import BatchItem, BatchRecord, BatchTerms, UnknownBatch
from m2dao.errors import InvalidId, QuotaExceeded
from serve_apps.api.bodies.times import utc
from serve_apps.api.resources.fits import Fits, FitTerms
from serve_apps.api.schemas import Body
from serve_apps.problems import ApiProblem

BatchStatus = Literal["running", "paused", "cancelling", "done", "cancelled"]
ItemStatus = Literal["waiting", "begun", "done", "failed", "cancelled"]
_AGAIN_S = 60


class BatchItemRequest(Body):
    """One identity of a batch."""

    identity: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,39}$", examples=["anna"])
    recording: str | None = Field(default=None, max_length=100, description="Of a fit: the recording, which is ready.")
    consent: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_CONSENT_CHARACTERS,
        description="Of a fit: who said that they consent.",
    )
    version: int | None = Field(
        default=None,
        ge=1,
        lt=10**9,
        description="What is judged (the newest if null) or migrated (the champion if null).",
    )


class BatchRequest(Body):
    """One wish for many identities."""

    kind: Literal["fit", "migrate", "judge"] = Field(
        description="`fit`: from recordings. `migrate`: fit versions again from their recordings, with their settings. "
        "`judge`: ask the gate.",
        examples=["migrate"],
    )
    items: list[BatchItemRequest] = Field(min_length=1, max_length=500, examples=[[{"identity": "anna"}]])
    fit: FitTerms | None = Field(
        default=None, description="Of fits; null: the usual, or those of each migrated version."
    )
    promote: bool = Field(default=False, description="Promote each version that passes the gate.")
    priority: Literal["low", "normal", "high"] = "low"
    wave: int = Field(default=5, ge=1, le=100, description="How many are begun together; the next wave waits for them.")
    max_failed: int = Field(default=0, ge=0, le=500, description="The batch pauses when more have failed.")


class BatchItemBody(Body):
    """How far an item is."""

    identity: str
    status: ItemStatus
    fit: str | None = Field(description="The fit that does it.")
    detail: str = Field(description="How it ended: the version, or why not.")


class BatchBody(Body):
    """A batch: one wish for many identities, done in waves."""

    id: str = Field(examples=["b-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4"])
    kind: Literal["fit", "migrate", "judge"]
    status: BatchStatus
    reason: str = Field(description="Why it is paused.")
    progress: float = Field(ge=0, le=1, description="Share of the items that have ended.")
    counts: dict[ItemStatus, int] = Field(description="Items by state.")
    wave: int
    max_failed: int
    promote: bool
    created_at: datetime
    updated_at: datetime
    items: list[BatchItemBody] = Field(default=[], description="Not in lists.")


class BatchList(Body):
    """Batches of the tenant, the newest first."""

    batches: list[BatchBody]
    next: str | None = Field(description="Where the next page begins: ask again with `after` set to it. null: no more.")


class BatchResource:
    """The batches of tenants; an id that is malformed, unknown or another's gets the same answer."""

    def __init__(self, platform: Platform):
        self._table = platform.state.batches
        self._fits = Fits(platform)
        self._batches = Batches(platform.state, platform.store, Champions(platform.state))

    def create(self, tenant: TenantId, wish: BatchRequest, key: str | None) -> BatchRecord:
        """Keep a batch; the keeper begins with it at once.

        Raises:
            ApiProblem: too many batches are open, or an item makes no sense.
            Conflict, UnknownRecording: a recording is not ready, or not there.
        """
        options = {} if wish.kind == "judge" else self._options(wish)
        terms = BatchTerms(
            wave=wish.wave,
            max_failed=wish.max_failed,
            promote=wish.promote,
            options=options,
            priority=PRIORITIES[wish.priority],
        )
        items = [self._item(tenant, wish.kind, number, item) for number, item in enumerate(wish.items)]
        try:
            return self._table.create(tenant, wish.kind, terms, items, key=key)
        except QuotaExceeded as error:
            raise ApiProblem("too-many-batches", str(error.expected), {"Retry-After": str(_AGAIN_S)}) from error

    def get(self, tenant: TenantId, text: str) -> BatchRecord:
        """One batch."""
        try:
            return self._table.get(tenant, BatchId.parse(text))
        except (InvalidId, UnknownBatch) as error:
            raise ApiProblem("unknown-batch", "no batch of that id") from error

    def page(self, tenant: TenantId, *, after: str, limit: int) -> BatchList:
        """A page of batches, the newest first."""
        records, following = self._table.page(tenant, after=after, limit=limit)
        return BatchList(batches=[batch_body(record, with_items=False) for record in records], next=following)

    def pause(self, tenant: TenantId, text: str) -> BatchRecord:
        """Begin nothing more."""
        return self._batches.pause(self.get(tenant, text))

    def resume(self, tenant: TenantId, text: str, *, retry_failed: bool) -> BatchRecord:
        """Go on."""
        return self._batches.resume(self.get(tenant, text), retry_failed=retry_failed)

    def cancel(self, tenant: TenantId, text: str) -> BatchRecord:
        """End it."""
        return self._batches.cancel(self.get(tenant, text))

    def _options(self, wish: BatchRequest) -> dict[str, object]:
        if wish.fit is None and wish.kind == "migrate":
            return {}
        return self._fits.options(wish.fit or FitTerms()).as_dict()

    def _item(self, tenant: TenantId, kind: str, number: int, item: BatchItemRequest) -> BatchItem:
        identity = str(IdentityName.parse(item.identity))
        if (kind == "fit") != (item.recording is not None):
            detail = "name a recording" if kind == "fit" else "only fits have a recording"
            fault = {"field": f"body.items.{number}.recording", "detail": detail}
            raise ApiProblem("invalid-request", "an item makes no sense", errors=[fault])
        if item.recording is None:
            return BatchItem(identity=identity, version=item.version)
        recording = self._fits.ready_recording(tenant, item.recording)
        return BatchItem(
            identity=identity,
            recording_sha256=recording.sha256,
            recording_name=recording.name,
            consent=item.consent,
        )


def batch_body(record: BatchRecord, *, with_items: bool = True) -> BatchBody:
    """A batch as the API shows it."""
    counts = record.counts
    ended = counts["done"] + counts["failed"] + counts["cancelled"]
    shown = record.items if with_items else ()
    return BatchBody(
        id=str(record.id),
        kind=cast(Literal["fit", "migrate", "judge"], record.kind),  # the schema checks it
        status=cast(BatchStatus, record.status),
        reason=record.reason if record.status == "paused" else "",
        progress=ended / max(1, len(record.items)),
        counts=cast(dict[ItemStatus, int], dict(counts)),
        wave=record.terms.wave,
        max_failed=record.terms.max_failed,
        promote=record.terms.promote,
        created_at=utc(record.created_s),
        updated_at=utc(record.updated_s),
        items=[
            BatchItemBody(
                identity=item.identity,
                status=cast(ItemStatus, item.status),
                fit=item.job or None,
                detail=item.detail,
            )
            for item in shown
        ],
    )
