"""Carries batches out, in waves: fits, migrates or judges many identities of a tenant.

A step looks at what was begun, and begins what is next. It can be cut off anywhere: an item is noted as begun before
its fit is queued, and the fit's name follows from the batch and the item, so queueing it again is the same fit.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping

from cluster.control.champions import Champions
from cluster.control.fit_requests import FitOptions, FitRequest
from cluster.control.fits import FitService
from cluster.control.gate import Promotions
from cluster.control.recordings import recording_key
from cluster.ids import BatchId, FitId, IdentityName, ModelRef, TenantId
from cluster.state.records import FINISHED
from cluster.state.resources.batches import ITEM_ENDED, BatchItem, BatchRecord, UnknownBatch
from cluster.state.store import StateStore
from cluster.storage import ObjectStore
from m2dao.errors import (
    Conflict,
    InputError,
    LeaseLost,
    M2daoError,
    PromotionRefused,
    QuotaExceeded,
    ServiceUnavailable,
    UnderMaintenance,
    UnknownJob,
)

logger = logging.getLogger(__name__)
_OPEN = "running paused cancelling"


class Batches:
    """What an operator can do about batches, and what the keeper does.

    Args:
        state: where they are kept.
        store: where recordings are.
        champions: moves champions, and has versions probed.
    """

    def __init__(self, state: StateStore, store: ObjectStore, champions: Champions):
        self._state, self._store, self._table = state, store, state.batches
        self._fits = FitService(state=state, store=store)
        self._promotions = Promotions(state.versions, champions)

    # -- for those who ask ------------------------------------------------------------------------------------

    def pause(self, record: BatchRecord) -> BatchRecord:
        """Begin nothing more; what has begun goes on.

        Raises:
            Conflict: it has ended, or is being cancelled.
        """
        return self._table.move(record, "running", "paused", reason="by wish")

    def resume(self, record: BatchRecord, *, retry_failed: bool = False) -> BatchRecord:
        """Go on with a paused batch. Failures until now no longer count.

        Args:
            retry_failed: begin with what has failed anew.

        Raises:
            Conflict: it is not paused.
        """
        failed = {number: item for number, item in enumerate(record.items) if item.status == "failed"}
        again = {
            number: dataclasses.replace(item, status="waiting", job="", detail="") for number, item in failed.items()
        }
        if record.status == "running":
            return record
        if record.status != "paused":
            raise Conflict(f"batch {record.id}", "one that is paused", f"one that is {record.status}")
        forgiven = 0 if retry_failed else len(failed)
        return self._table.move(record, "paused", "running", forgiven=forgiven, items=again if retry_failed else None)

    def cancel(self, record: BatchRecord) -> BatchRecord:
        """Begin nothing more, and end what has begun. Cancelling it again changes nothing.

        Raises:
            Conflict: it is done.
        """
        if record.status == "cancelled":
            return record
        return self._table.move(record, _OPEN, "cancelling")

    # -- for the keeper ---------------------------------------------------------------------------------------

    def step(self, check: Callable[[], None] = lambda: None) -> int:
        """Look at every open batch, and go on with it; returns how many there are.

        Args:
            check: called before each change; raises when somebody else has become the keeper.
        """
        found = self._table.open()
        for tenant, batch_id in found:
            try:
                self._go_on(tenant, batch_id, check)
            except UnknownBatch:
                self._table.pass_over(tenant, batch_id)
            except LeaseLost:
                raise
            except (Conflict, ServiceUnavailable) as error:  # somebody has moved it; the next step sees how
                logger.info("a batch has moved", extra={"batch": str(batch_id), "reason": str(error)})
        return len(found)

    def _go_on(self, tenant: TenantId, batch_id: BatchId, check: Callable[[], None]) -> None:
        record = self._table.get(tenant, batch_id)
        self._note(record, check, {number: self._ended(record, item) for number, item in _begun(record)})
        record = self._table.get(tenant, batch_id)
        if record.status == "cancelling":
            self._end(record, check)
        elif all(item.status in ITEM_ENDED for item in record.items):
            check()
            self._table.move(record, "running paused", "done")
        elif record.status == "running":
            num_failed = record.counts["failed"] - record.forgiven
            if num_failed > record.terms.max_failed:
                check()
                reason = f"{num_failed} failed, allowed are {record.terms.max_failed}"
                self._table.move(record, "running", "paused", reason=reason)
            else:
                self._begin(record, check)

    def _begin(self, record: BatchRecord, check: Callable[[], None]) -> None:
        """Begin the next wave when the last one has ended; also what was noted as begun and was cut off."""
        if not _begun(record):
            waiting = [(n, item) for n, item in enumerate(record.items) if item.status == "waiting"]
            begun = {
                number: dataclasses.replace(item, status="begun", tries=item.tries + 1)
                for number, item in waiting[: record.terms.wave]
            }
            self._note(record, check, begun)
            record = dataclasses.replace(
                record, items=tuple(begun.get(number, item) for number, item in enumerate(record.items))
            )
        for number, item in _begun(record):
            if not item.job:
                self._note(record, check, {number: self._do(record, number, item)})

    def _do(self, record: BatchRecord, number: int, item: BatchItem) -> BatchItem:
        """Begin an item, or do it where that takes only seconds."""
        try:
            if record.kind == "judge":
                return dataclasses.replace(item, status="done", detail=self._judge(record, item))
            request = self._request(record, item)
            key = f"batch {record.id} {number} {item.tries}"
            return dataclasses.replace(item, job=str(self._fits.order(record.tenant, request, key=key).id))
        except ServiceUnavailable:
            raise
        except (QuotaExceeded, UnderMaintenance) as error:  # it begins later
            logger.info("an item of a batch waits", extra={"batch": str(record.id), "reason": str(error)})
            return item
        except M2daoError as error:
            return dataclasses.replace(item, status="failed", detail=str(error)[:500])

    def _request(self, record: BatchRecord, item: BatchItem) -> FitRequest:
        """The fit of an item: as the batch says, or as the version says that is migrated."""
        identity, terms = IdentityName.parse(item.identity), record.terms
        request = FitRequest(
            batch=str(FitId.new()),
            identity=identity,
            recording_sha256=item.recording_sha256,
            recording_name=item.recording_name,
            options=FitOptions.from_dict(terms.options) if terms.options else FitOptions(),
            consent=item.consent,
            promote=terms.promote,
            priority=terms.priority,
        )
        if record.kind != "migrate":
            return request
        version = item.version or self._state.champions.get(record.tenant, identity).version
        if version is None:
            raise InputError(f"identity {identity}", "a champion to migrate", "none", "name a version")
        ref = ModelRef(record.tenant, identity, version)
        self._state.versions.facts(ref)
        (details,) = self._state.versions.details([ref])
        tags = {} if details is None else details.tags
        sha256 = tags.get("recording_sha256", "")
        if not sha256 or not self._store.exists(recording_key(record.tenant, sha256)):
            raise InputError(
                str(ref), "the recording that it was fitted from", "none that is stored", "upload it again"
            )
        return dataclasses.replace(
            request,
            recording_sha256=sha256,
            recording_name=tags.get("recording_name", ""),
            consent=tags.get("consent"),
            options=request.options if terms.options else _options_of(tags),
        )

    def _judge(self, record: BatchRecord, item: BatchItem) -> str:
        """What the gate says of a version; it becomes the champion where that is wanted."""
        identity = IdentityName.parse(item.identity)
        numbers = self._state.versions.numbers(record.tenant, identity)
        version = item.version or (numbers[-1] if numbers else None)
        if version is None:
            raise InputError(f"identity {identity}", "a version to judge", "none")
        ref = ModelRef(record.tenant, identity, version)
        if record.terms.promote:
            self._promotions.promote(ref)
            return f"version {version} is the champion"
        decision = self._promotions.judge(ref)
        if not decision.passed:
            raise PromotionRefused(str(ref), "a version that passes the gate", "; ".join(decision.reasons))
        return f"version {version} passes the gate"

    def _ended(self, record: BatchRecord, item: BatchItem) -> BatchItem:
        """An item that was begun, as its fit says."""
        if not item.job:
            return item
        try:
            job = self._state.jobs.get(record.tenant, FitId.parse(item.job))
        except UnknownJob:
            return dataclasses.replace(item, status="failed", detail="its fit has left the list")
        if job.status not in FINISHED:
            return item
        detail = job.result["ref"] if job.result is not None else "" if job.error is None else job.error.detail
        return dataclasses.replace(item, status=job.status, detail=str(detail)[:500])

    def _end(self, record: BatchRecord, check: Callable[[], None]) -> None:
        """End what has begun of a batch that is being cancelled, then the batch."""
        for number, item in _begun(record):
            if not item.job and record.kind != "judge":  # it may have been queued; its name leads to it
                item = self._do(record, number, item)
                self._note(record, check, {number: item})
            if item.job:
                check()
                try:
                    self._fits.cancel(record.tenant, FitId.parse(item.job))
                except Conflict:  # it has just ended
                    logger.debug("fit %s has ended", item.job)
        record = self._table.get(record.tenant, record.id)
        left = {
            number: self._ended(record, item) if item.job else dataclasses.replace(item, status="cancelled")
            for number, item in enumerate(record.items)
            if item.status not in ITEM_ENDED
        }
        check()
        self._table.move(record, "cancelling", "cancelled", items=left)

    def _note(self, record: BatchRecord, check: Callable[[], None], items: dict[int, BatchItem]) -> None:
        """Note what has changed of some items."""
        changed = {number: item for number, item in items.items() if item != record.items[number]}
        if changed:
            check()
            self._table.note(record, changed)


def _begun(record: BatchRecord) -> list[tuple[int, BatchItem]]:
    return [(number, item) for number, item in enumerate(record.items) if item.status == "begun"]


def _options_of(known: Mapping[str, str]) -> FitOptions:
    """The settings of a fit as the version tells them; the usual ones where it does not."""
    usual = FitOptions()
    minutes, steps = known.get("minutes"), known.get("steps")
    return FitOptions(
        recipe=known.get("recipe", usual.recipe),
        size=int(known.get("size", usual.size)),
        capture_size=int(known.get("capture_size", usual.capture_size)),
        minutes=float(minutes) if minutes else None if steps else usual.minutes,
        steps=int(steps) if steps else None,
        seed=int(known.get("seed", usual.seed)),
    )
