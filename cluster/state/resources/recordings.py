"""Recordings that tenants upload: reserved, uploaded, looked at, ready, and gone again.

    create -> uploading -> checking -> moving -> ready
                               `-----> refused
              any state -> deleting -> forgotten

The room of a recording is reserved when its upload begins, and is free again when it is forgotten. The same bytes of a
tenant are one recording. Every recording has a time at which the keeper is to look at it, so nothing that was given up
half-way lies about for good, and nobody has to search for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.ids import RecordingId, TenantId
from cluster.state import keys, scripts
from cluster.state.link import RedisLink
from cluster.state.new_jobs import idempotency_conflict, idempotency_digest
from cluster.state.problems import Problem
from cluster.state.records import fields_of
from cluster.state.upkeep.maintenance import under_maintenance
from m2dao.errors import (
    Conflict,
    QuotaExceeded,
    StorageFull,
    UnknownRecording,
    UnknownTenant,
)

_IDEMPOTENCY_S = 24 * 3600
_FIRST_WAIT_S, _MOST_WAIT_S = 1.0, 300.0


@dataclass(frozen=True, kw_only=True)
class RecordingRecord:
    """A recording as it was when it was read.

    Args:
        state: "uploading", "checking", "moving", "ready", "refused" or "deleting".
        upload: the object store's name for the upload; empty until it has one.
        report: what is in it and what will be done with it, as ``m2dao probe`` tells it; None until it was looked at
            and may be where fits find it.
        problem: why it was refused.
        expires_s: Unix time when the keeper looks at it next: an upload is given up, a finished one deleted.
        num_tries: how often the keeper failed at it in its present state.
    """

    id: RecordingId
    tenant: TenantId
    name: str
    num_bytes: int
    sha256: str
    state: str
    upload: str
    created_s: float
    updated_s: float
    expires_s: float | None
    report: dict[str, Any] | None
    problem: Problem | None
    num_tries: int

    @property
    def cursor(self) -> str:
        """Where a list goes on after it."""
        return f"{self.created_s * 1e6:.0f}"


@dataclass(frozen=True, kw_only=True)
class RoomFor:
    """What a tenant may have.

    Args:
        num_bytes: of recordings, those being uploaded included.
        num_uploads: uploads that are open at the same time.
        upload_s: how long an upload may take.
    """

    num_bytes: int
    num_uploads: int
    upload_s: float


class RecordingTable:
    """The recordings of all tenants. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink):
        self._link = link

    # -- for those who ask ------------------------------------------------------------------------------------

    def create(
        self, tenant: TenantId, *, name: str, num_bytes: int, sha256: str, room: RoomFor, key: str | None = None
    ) -> RecordingRecord:
        """Reserve room for a recording; the same bytes are the recording that there is.

        Args:
            key: the client's own name for this request.

        Raises:
            Conflict: the recording of the same bytes is being deleted.
            IdempotencyConflict: the key was used for another request.
            StorageFull: the tenant has no room for it.
            QuotaExceeded: too many uploads are open.
            UnderMaintenance: nothing new is accepted.
            UnknownTenant: there is no such tenant.
        """
        recording_id = RecordingId.new()
        names = [
            keys.recording(tenant, recording_id),
            keys.recordings(tenant),
            keys.recordings_by_content(tenant),
            keys.stored(tenant),
            keys.TENANTS,
            keys.DUE_RECORDINGS,
            "" if key is None else keys.idempotency(tenant, idempotency_digest("recording", key)),
        ]
        fingerprint = hashlib.sha256(json.dumps([name, num_bytes, sha256]).encode()).hexdigest()
        words = [str(recording_id), str(tenant), name, num_bytes, sha256, fingerprint, room.upload_s]
        words += [room.num_bytes, room.num_uploads, _IDEMPOTENCY_S]
        outcome, *found = self._link.run(scripts.CREATE_RECORDING, names, words)
        if outcome in ("created", "same"):
            return _record(fields_of(found[0]))
        if outcome == "conflict":
            raise idempotency_conflict()
        if outcome == "full":
            expected = f"at most {room.num_bytes} bytes together"
            remedy = "delete recordings that you need no more"
            raise StorageFull("recordings", expected, f"{num_bytes} bytes beside {found[0][0]}", remedy)
        if outcome == "deleting":
            raise Conflict("recording", "other bytes", "those of a recording that is being deleted", "try again soon")
        if outcome == "maintenance":
            raise under_maintenance()
        if outcome == "busy":
            expected = f"at most {room.num_uploads} uploads that are not complete"
            raise QuotaExceeded("uploads", expected, "one more", "complete or delete one")
        raise UnknownTenant(f"tenant {tenant}", "a tenant", "none of that name", "create it first")

    def get(self, tenant: TenantId, recording_id: RecordingId) -> RecordingRecord:
        """One of the tenant's recordings.

        Raises:
            UnknownRecording: there is none, it is being deleted, or it is another tenant's.
        """
        record = self.find(tenant, recording_id)
        if record is None or record.state == "deleting":
            raise _unknown(recording_id)
        return record

    def find(self, tenant: TenantId, recording_id: RecordingId) -> RecordingRecord | None:
        """A recording in whatever state; None when there is none."""
        fields = self._link.hash(keys.recording(tenant, recording_id))
        return _record(fields) if fields else None

    def page(self, tenant: TenantId, *, after: str = "", limit: int = 20) -> tuple[list[RecordingRecord], str | None]:
        """A page of recordings, the newest first, and where the next page begins.

        Args:
            after: what the page before gave; empty for the first.
        """
        newest = f"({after}" if after else "+inf"
        ids = self._link.call("ZREVRANGEBYSCORE", keys.recordings(tenant), newest, "-inf", "LIMIT", 0, limit)
        tables = self._link.hashes([keys.recording(tenant, RecordingId.parse(text)) for text in ids])
        records = [_record(fields) for fields in tables if fields]
        following = records[-1].cursor if len(ids) == limit and records else None
        return [record for record in records if record.state != "deleting"], following

    def num_bytes(self, tenant: TenantId) -> int:
        """The bytes of a tenant's recordings, those being uploaded included."""
        return int(self._link.call("HGET", keys.stored(tenant), "bytes") or 0)

    # -- moving on --------------------------------------------------------------------------------------------

    def set_upload(self, record: RecordingRecord, upload: str) -> str:
        """Note what the object store calls an upload; answers the name that was noted first."""
        key = keys.recording(record.tenant, record.id)
        self._link.run(scripts.SET_UPLOAD, [key], [upload])
        found = self._link.call("HGET", key, "upload")
        if found is None:
            raise _unknown(record.id)
        return str(found)

    def to_checking(self, record: RecordingRecord) -> RecordingRecord:
        """Note that all of it is stored; the keeper looks at it at once.

        Raises:
            Conflict, UnknownRecording: it is not being uploaded any more.
        """
        return self._move(record, "uploading", "checking", due_s=0.0)

    def to_moving(self, record: RecordingRecord, report: Mapping[str, Any]) -> RecordingRecord:
        """Note what is in it; from now on it may be where fits find it.

        Raises:
            Conflict, UnknownRecording: it is not being looked at any more.
        """
        return self._move(record, "checking", "moving", due_s=0.0, report=report)

    def to_ready(self, record: RecordingRecord, *, keep_s: float) -> RecordingRecord:
        """Note that fits find it; it is deleted after so many seconds. Raises what ``to_moving`` does."""
        return self._move(record, "moving", "ready", due_s=keep_s)

    def to_refused(self, record: RecordingRecord, problem: Problem, *, keep_s: float) -> RecordingRecord:
        """Note why it cannot be used. Raises what ``to_moving`` does."""
        return self._move(record, "checking", "refused", due_s=keep_s, problem=problem)

    def to_deleting(self, record: RecordingRecord) -> RecordingRecord:
        """Take it out of use for good; the keeper deletes its files, should this process not come to it.

        Raises:
            UnknownRecording: it is gone.
        """
        return self._move(record, "uploading checking moving ready refused", "deleting", due_s=0.0)

    def forget(self, record: RecordingRecord) -> None:
        """Forget a recording that is being deleted and whose files are gone."""
        tenant = record.tenant
        names = [keys.recording(tenant, record.id), keys.recordings(tenant), keys.stored(tenant), keys.DUE_RECORDINGS]
        names += [keys.recordings_by_content(tenant)]
        self._link.run(scripts.FORGET_RECORDING, names, [str(tenant), str(record.id)])

    # -- for the keeper ---------------------------------------------------------------------------------------

    def due(self, *, limit: int = 1000) -> list[tuple[TenantId, RecordingId]]:
        """The recordings that are to be looked at now, the longest due first."""
        seconds, microseconds = self._link.call("TIME")
        now = int(seconds) * 10**6 + int(microseconds)
        found = self._link.call("ZRANGEBYSCORE", keys.DUE_RECORDINGS, "-inf", now, "LIMIT", 0, limit)
        pairs = [text.split(" ") for text in found]
        return [(TenantId(tenant), RecordingId(recording_id)) for tenant, recording_id in pairs]

    def put_off(self, record: RecordingRecord, *, first_s: float = _FIRST_WAIT_S) -> None:
        """Look at it later, after a wait that grows."""
        names = [keys.recording(record.tenant, record.id), keys.DUE_RECORDINGS]
        words = [str(record.tenant), str(record.id), record.num_tries, first_s, max(first_s, _MOST_WAIT_S)]
        self._link.run(scripts.PUT_OFF_RECORDING, names, words)

    def pass_over(self, tenant: TenantId, recording_id: RecordingId) -> None:
        """Look no more at what is not there: its tenant was deleted."""
        self._link.call("ZREM", keys.DUE_RECORDINGS, f"{tenant} {recording_id}")

    def _move(
        self,
        record: RecordingRecord,
        states: str,
        to: str,
        *,
        due_s: float,
        report: Mapping[str, Any] | None = None,
        problem: Problem | None = None,
    ) -> RecordingRecord:
        tenant = record.tenant
        names = [keys.recording(tenant, record.id), keys.recordings_by_content(tenant), keys.stored(tenant)]
        words = [str(tenant), str(record.id), states, to, due_s]
        words += [
            "" if report is None else json.dumps(report),
            "" if problem is None else json.dumps(problem.as_dict()),
        ]
        outcome, *found = self._link.run(scripts.MOVE_RECORDING, [*names, keys.DUE_RECORDINGS], words)
        if outcome == "unknown":
            raise _unknown(record.id)
        if outcome != "moved":
            raise Conflict(f"recording {record.id}", states.replace(" ", " or "), str(outcome), "look at it again")
        return _record(fields_of(found[0]))


def _unknown(recording_id: RecordingId) -> UnknownRecording:
    return UnknownRecording(f"recording {recording_id}", "a recording", "none of that id")


def _record(fields: Mapping[str, str]) -> RecordingRecord:
    return RecordingRecord(
        id=RecordingId(fields["id"]),
        tenant=TenantId(fields["tenant"]),
        name=fields["name"],
        num_bytes=int(fields["bytes"]),
        sha256=fields["sha256"],
        state=fields["state"],
        upload=fields["upload"],
        created_s=int(fields["created"]) / 1e6,
        updated_s=int(fields["updated"]) / 1e6,
        expires_s=int(fields["expires"]) / 1e6 if "expires" in fields else None,
        report=json.loads(fields["report"]) if "report" in fields else None,
        problem=Problem.from_dict(json.loads(fields["problem"])) if "problem" in fields else None,
        num_tries=int(fields["tries"]),
    )
