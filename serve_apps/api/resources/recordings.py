"""Recordings as the API shows them, without HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from pydantic import Field

from cluster.control.recordings import MAX_NAME_CHARACTERS, Recordings, Upload
from cluster.ids import RecordingId, TenantId
from cluster.state.resources.recordings import RecordingRecord
from m2dao.errors import InvalidId, QuotaExceeded, UnknownRecording
from serve_apps.api.bodies.times import utc
from serve_apps.api.schemas import Body
from serve_apps.problems import ApiProblem, document_of

RecordingState = Literal["uploading", "checking", "ready", "refused"]
_AGAIN_S = 60


class RecordingRequest(Body):
    """A file that is to be uploaded."""

    name: str = Field(
        min_length=1, max_length=MAX_NAME_CHARACTERS, description="The file's name, for people.", examples=["anna.mp4"]
    )
    num_bytes: int = Field(ge=1, le=10**15, description="Its size.", examples=[7_340_032])
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="The hash of its bytes.", examples=["0b1c" * 16])


class PartUrl(Body):
    """Where to send one part."""

    number: int = Field(description="From 1.")
    num_bytes: int = Field(description="The size that it must have.")
    url: str = Field(description="PUT the bytes of the part here, without an API key.")


class StoredPartBody(Body):
    """A part that is in the store."""

    number: int
    num_bytes: int


class UploadBody(Body):
    """How far an upload is, and where to send the rest."""

    part_bytes: int = Field(description="The size of every part but the last.")
    num_parts: int
    stored: list[StoredPartBody] = Field(description="What the store has.")
    missing: list[PartUrl] = Field(description="What it lacks, or has in another size.")
    urls_expire_at: datetime = Field(description="When these URLs stop working. Ask again for fresh ones.")


class RecordingBody(Body):
    """An uploaded video of a person."""

    id: str = Field(examples=["rec-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4"])
    state: RecordingState
    name: str
    num_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None = Field(
        description="When it is deleted; of an upload: when it is given up. null while it is looked into."
    )
    report: dict[str, Any] | None = Field(
        default=None, description="When ready: its tracks, its length and what will be done with it, as `m2dao probe`."
    )
    error: dict[str, Any] | None = Field(default=None, description="When refused: a problem document.")
    upload: UploadBody | None = Field(default=None, description="Of a new recording: where to send its parts.")


class RecordingList(Body):
    """Recordings of the tenant, the newest first."""

    recordings: list[RecordingBody]
    next: str | None = Field(description="Where the next page begins: ask again with `after` set to it. null: no more.")


class RecordingResource:
    """The recordings of tenants; an id that is malformed, unknown or another's gets the same answer."""

    def __init__(self, recordings: Recordings):
        self._recordings = recordings

    def create(self, tenant: TenantId, wish: RecordingRequest, key: str | None) -> RecordingBody:
        """Reserve room for a file, and tell where to send it.

        Raises:
            ApiProblem: too many uploads are open.
            M2daoError: see ``Recordings.create``.
        """
        try:
            record = self._recordings.create(
                tenant, name=wish.name, num_bytes=wish.num_bytes, sha256=wish.sha256, key=key
            )
        except QuotaExceeded as error:
            detail = f"{error.expected}; complete or delete one"
            raise ApiProblem("too-many-uploads", detail, {"Retry-After": str(_AGAIN_S)}) from error
        upload = self._recordings.upload(record) if record.state == "uploading" else None
        return recording_body(record, upload)

    def get(self, tenant: TenantId, text: str) -> RecordingRecord:
        """One recording."""
        return self._recordings.get(tenant, parse_recording(text))

    def parts(self, tenant: TenantId, text: str) -> UploadBody:
        """How far its upload is.

        Raises:
            Conflict: it is complete.
        """
        return _upload_body(self._recordings.upload(self.get(tenant, text)))

    def complete(self, tenant: TenantId, text: str) -> RecordingRecord:
        """End its upload.

        Raises:
            Conflict: parts are missing.
        """
        return self._recordings.complete(tenant, parse_recording(text))

    def delete(self, tenant: TenantId, text: str) -> None:
        """Delete it.

        Raises:
            Conflict: an open fit needs it.
        """
        self._recordings.delete(tenant, parse_recording(text))

    def page(self, tenant: TenantId, *, after: str, limit: int) -> RecordingList:
        """A page of recordings, the newest first."""
        records, following = self._recordings.page(tenant, after=after, limit=limit)
        return RecordingList(recordings=[recording_body(record) for record in records], next=following)


def parse_recording(text: str) -> RecordingId:
    """The id of a recording.

    Raises:
        UnknownRecording: it cannot be one; the answer is that of an unknown one.
    """
    try:
        return RecordingId.parse(text)
    except InvalidId as error:
        raise UnknownRecording("recording", "a recording", "none of that id") from error


def recording_body(record: RecordingRecord, upload: Upload | None = None) -> RecordingBody:
    """A recording as the API shows it."""
    return RecordingBody(
        id=str(record.id),
        state=cast(RecordingState, "checking" if record.state == "moving" else record.state),  # the schema checks it
        name=record.name,
        num_bytes=record.num_bytes,
        sha256=record.sha256,
        created_at=utc(record.created_s),
        expires_at=_expiry(record),
        report=record.report if record.state == "ready" else None,
        error=None if record.problem is None else document_of(record.problem),
        upload=None if upload is None else _upload_body(upload),
    )


def _expiry(record: RecordingRecord) -> datetime | None:
    if record.expires_s is None or record.state in ("checking", "moving"):
        return None
    return utc(record.expires_s)


def _upload_body(upload: Upload) -> UploadBody:
    cut = upload.cut
    return UploadBody(
        part_bytes=cut.part_bytes,
        num_parts=cut.num_parts,
        stored=[StoredPartBody(number=part.number, num_bytes=part.num_bytes) for part in upload.stored],
        missing=[
            PartUrl(number=number, num_bytes=cut.bytes_of(number), url=url) for number, url in upload.urls.items()
        ],
        urls_expire_at=datetime.now(UTC) + timedelta(seconds=upload.url_s),
    )
