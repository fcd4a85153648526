"""Recordings that tenants upload: their bytes go straight to the object store.

A recording is uploaded in parts to a place of its own. When all of it is there, the keeper reads it: are these the
bytes that were announced, and can they be decoded? Then they move to where fits find them, named by their hash.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from cluster.groups.recordings import RecordingSettings
from cluster.ids import RecordingId, TenantId
from cluster.object_keys import object_key
from cluster.settings import MB
from cluster.state.problems import Problem
from cluster.state.resources.recordings import RecordingRecord, RoomFor
from cluster.state.store import StateStore
from cluster.state.upkeep.erasures import recording_path
from cluster.storage import ObjectStore
from cluster.uploads.parts import Cut, PartUploads, StoredPart
from m2dao.errors import Conflict, InputError, RecordingTooLarge, ServiceUnavailable, UnknownObject, UnknownRecording

logger = logging.getLogger(__name__)

UPLOADS = "uploads"
MAX_NAME_CHARACTERS = 200
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DAY_S = 24 * 3600.0
_REFUSED_S = _DAY_S  # how long a recording that was refused can be read about
_IN_USE_AGAIN_S = 3600.0  # until the keeper looks again whether fits still need what is to be deleted


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An upload that is under way.

    Args:
        cut: how the file is cut into parts.
        stored: what the store has.
        urls: where to send the parts that it lacks, by their number.
        url_s: how long these URLs live.
    """

    cut: Cut
    stored: tuple[StoredPart, ...]
    urls: dict[int, str]
    url_s: int


def upload_key(tenant: TenantId, recording_id: RecordingId) -> str:
    """Where the bytes of a recording are until they were looked at."""
    return object_key(tenant, UPLOADS, str(recording_id))


def recording_key(tenant: TenantId, sha256: str) -> str:
    """Where a recording is that can be fitted: stored once, whoever brought it."""
    return object_key(tenant, "recordings", sha256)


def file_suffix(name: str) -> str:
    """The file type, which some decoders look at; empty when it is unusual."""
    suffix = PurePath(name).suffix.lower()
    return suffix if _SUFFIX.fullmatch(suffix) else ""


class Recordings:
    """What a tenant can do about its recordings.

    Args:
        state: where they are known.
        store: where their bytes are.
        settings: how many and how large they may be.
    """

    def __init__(self, state: StateStore, store: ObjectStore, settings: RecordingSettings):
        self._state, self._store, self._settings = state, store, settings
        self._table, self._parts = state.recordings, PartUploads(store)

    def create(
        self, tenant: TenantId, *, name: str, num_bytes: int, sha256: str, key: str | None = None
    ) -> RecordingRecord:
        """Reserve room for a recording and begin its upload; the same bytes are the recording that there is.

        Args:
            name: the file's name, for people.
            num_bytes: its size.
            sha256: of its bytes.
            key: the client's own name for this request.

        Raises:
            InputError: a value is out of bounds.
            RecordingTooLarge: it is larger than a recording may be.
            StorageFull, QuotaExceeded, IdempotencyConflict: see ``RecordingTable.create``.
        """
        if not (0 < len(name) <= MAX_NAME_CHARACTERS and name.isprintable()):
            raise InputError("name", f"1 to {MAX_NAME_CHARACTERS} printable characters", repr(name[:60]))
        if not _SHA256.fullmatch(sha256):
            raise InputError("sha256", "64 hexadecimal digits in lower case", repr(sha256[:70]))
        if num_bytes < 1:
            raise InputError("num_bytes", "1 or more", str(num_bytes))
        if num_bytes > self._settings.max_mb * MB:
            raise RecordingTooLarge("recording", f"at most {self._settings.max_mb} MB", f"{num_bytes / MB:.1f} MB")
        room = RoomFor(
            num_bytes=self._settings.storage_mb * MB,
            num_uploads=self._settings.max_uploads,
            upload_s=self._settings.upload_hours * 3600,
        )
        return self._table.create(tenant, name=name, num_bytes=num_bytes, sha256=sha256, room=room, key=key)

    def get(self, tenant: TenantId, recording_id: RecordingId) -> RecordingRecord:
        """One recording.

        Raises:
            UnknownRecording: there is none, or it is another tenant's.
        """
        return self._table.get(tenant, recording_id)

    def page(self, tenant: TenantId, *, after: str, limit: int) -> tuple[list[RecordingRecord], str | None]:
        """A page of recordings, the newest first, and where the next page begins."""
        return self._table.page(tenant, after=after, limit=limit)

    def upload(self, record: RecordingRecord) -> Upload:
        """What the store has of a recording, and where to send the rest.

        Raises:
            Conflict: it is not being uploaded any more.
        """
        cut = Cut.of(record.num_bytes, part_bytes=self._settings.part_mb * MB)
        if record.state != "uploading":
            raise Conflict(f"recording {record.id}", "an upload that is open", f"one that is {record.state}")
        name = self._upload_name(record)
        try:
            stored = self._stored(record, name)
        except UnknownObject as error:
            raise Conflict(
                f"recording {record.id}", "an upload that is open", "one that is complete", "call complete"
            ) from error
        whole = {part.number for part in stored if part.num_bytes == cut.bytes_of(part.number)}
        key, url_s = upload_key(record.tenant, record.id), self._settings.url_s
        urls = {
            number: self._parts.url(key, name, number, expires_s=url_s)
            for number in range(1, cut.num_parts + 1)
            if number not in whole
        }
        return Upload(cut=cut, stored=tuple(stored), urls=urls, url_s=url_s)

    def complete(self, tenant: TenantId, recording_id: RecordingId) -> RecordingRecord:
        """End an upload, once all of it is in the store; the keeper looks at it at once. Safe to repeat.

        Raises:
            Conflict: parts are missing, or have another size; the message names the first of them.
            UnknownRecording: there is none, or it is another tenant's.
        """
        record = self._table.get(tenant, recording_id)
        if record.state != "uploading":
            return record
        key, name = upload_key(tenant, record.id), self._upload_name(record)
        try:
            stored = self._stored(record, name)
            self._require_all(record, stored)
            self._parts.complete(key, name, stored)
        except UnknownObject as error:  # it was completed before, and the answer was lost
            if not self._store.exists(key):
                raise Conflict(f"recording {record.id}", "an upload that is open", "none", "begin anew") from error
        try:
            return self._table.to_checking(record)
        except (Conflict, UnknownRecording):  # deleted meanwhile
            self._store.delete(key)
            raise

    def delete(self, tenant: TenantId, recording_id: RecordingId) -> None:
        """Delete a recording with everything that was made of it but versions; an upload is given up.

        Raises:
            Conflict: fits that are open need it.
            UnknownRecording: there is none, or it is another tenant's.
        """
        record = self._table.get(tenant, recording_id)
        if self._is_needed(record):
            raise Conflict(f"recording {record.id}", "one that no open fit needs", "one that is needed", "cancel it")
        held_by_keeper = record.state in ("checking", "moving")
        record = self._table.to_deleting(record)
        if held_by_keeper:  # which may be moving it just now, and deletes it then
            return
        try:
            self._finish(record)
        except ServiceUnavailable as error:  # it is out of use; the keeper deletes the rest
            logger.warning("a recording is deleted later", extra={"recording": str(record.id), "error": str(error)})

    # -- for the keeper ---------------------------------------------------------------------------------------

    def look_after(self, record: RecordingRecord, look: Callable[[RecordingRecord], Looked]) -> None:
        """Do what is due about a recording. Safe to repeat, and to cut off anywhere.

        Args:
            look: reads what was uploaded.

        Raises:
            M2daoError: a service or a machine of ours failed; nothing is known of the recording.
        """
        if record.state == "checking":
            self._settle(record, look(record))
        elif record.state == "moving":
            self._move_in(record)
        elif record.state == "ready" and self._is_needed(record):
            self._table.put_off(record, first_s=_IN_USE_AGAIN_S)
        else:  # its time is over
            self._finish(record if record.state == "deleting" else self._table.to_deleting(record))

    def _settle(self, record: RecordingRecord, looked: Looked) -> None:
        uploaded = upload_key(record.tenant, record.id)
        if looked.problem is not None:
            self._table.to_refused(record, looked.problem, keep_s=_REFUSED_S)
            self._store.delete(uploaded)
        else:
            self._move_in(self._table.to_moving(record, looked.report or {}))

    def _move_in(self, record: RecordingRecord) -> None:
        """Put a recording to where fits find it."""
        uploaded, final = upload_key(record.tenant, record.id), recording_key(record.tenant, record.sha256)
        if not self._store.exists(final):  # a command may have brought it
            self._store.copy(uploaded, final)
        self._table.to_ready(record, keep_s=self._settings.keep_days * _DAY_S)
        self._store.delete(uploaded)

    def _finish(self, record: RecordingRecord) -> None:
        """Delete the files of a recording that is being deleted, then forget it."""
        tenant, uploaded = record.tenant, upload_key(record.tenant, record.id)
        for path in (recording_path(tenant, record.id), uploaded):
            self._state.erasures.note(path)
        if record.upload:
            self._parts.abort(uploaded, record.upload)
        self._store.delete(uploaded)
        if record.report is not None:  # else nothing of it was ever there: what is may be a command's
            ends = f"-{record.sha256}.tar"
            captures = [found.key for found in self._store.list(f"{tenant}/captures/") if found.key.endswith(ends)]
            for key in (recording_key(tenant, record.sha256), *captures):
                self._state.erasures.note(key)
                self._store.delete(key)
        self._table.forget(record)

    # -- inside -----------------------------------------------------------------------------------------------

    def _is_needed(self, record: RecordingRecord) -> bool:
        fits = (job for job in self._state.jobs.open("fit") if job.tenant == record.tenant)
        return any(job.request.get("recording_sha256") == record.sha256 for job in fits)

    def _upload_name(self, record: RecordingRecord) -> str:
        """The store's name for an upload, which begins with the first call."""
        if record.upload:
            return record.upload
        key = upload_key(record.tenant, record.id)
        name = self._parts.begin(key)
        first = self._table.set_upload(record, name)
        if first != name:
            self._parts.abort(key, name)
        return first

    def _stored(self, record: RecordingRecord, name: str) -> list[StoredPart]:
        return self._parts.parts(upload_key(record.tenant, record.id), name)

    def _require_all(self, record: RecordingRecord, stored: Sequence[StoredPart]) -> None:
        cut = Cut.of(record.num_bytes, part_bytes=self._settings.part_mb * MB)
        found = {part.number: part.num_bytes for part in stored}
        for number in sorted({*range(1, cut.num_parts + 1), *found}):
            expected = cut.bytes_of(number) if number <= cut.num_parts else 0
            if found.get(number, 0) != expected:
                got = f"{found[number]} bytes" if number in found else "none"
                remedy = "send it again; GET .../parts tells where"
                raise Conflict(f"part {number} of recording {record.id}", f"{expected} bytes", got, remedy)


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What came of looking into a recording: a report, or a problem."""

    report: dict[str, Any] | None = None
    problem: Problem | None = None
