"""Uploads in parts, which clients send to the object store themselves by presigned URLs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.object_keys import check_key
from cluster.storage import ObjectStore
from m2dao.errors import UnknownObject

MAX_PARTS = 1000  # what the store lists in one answer, and no more than it takes


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How a file is cut into parts.

    Args:
        num_bytes: of the whole.
        part_bytes: of each part but the last.
    """

    num_bytes: int
    part_bytes: int

    @classmethod
    def of(cls, num_bytes: int, *, part_bytes: int) -> Cut:
        """Parts of ``part_bytes``, or larger ones where there would be too many."""
        return cls(num_bytes=num_bytes, part_bytes=max(part_bytes, math.ceil(num_bytes / MAX_PARTS)))

    @property
    def num_parts(self) -> int:
        """How many there are."""
        return max(1, math.ceil(self.num_bytes / self.part_bytes))

    def bytes_of(self, part: int) -> int:
        """The size of a part; they count from 1."""
        return min(self.part_bytes, self.num_bytes - (part - 1) * self.part_bytes)


@dataclass(frozen=True, kw_only=True)
class StoredPart:
    """A part that the store has."""

    number: int  # from 1
    num_bytes: int
    etag: str


class PartUploads:
    """Uploads in parts. Every method raises what those of ``ObjectStore`` do."""

    def __init__(self, store: ObjectStore):
        self._store = store

    def begin(self, key: str) -> str:
        """Begin an upload; returns the store's name for it."""
        answer = self._store.ask("create_multipart_upload", check_key(key), ContentType="application/octet-stream")
        return str(answer["UploadId"])

    def url(self, key: str, upload: str, part: int, *, expires_s: int) -> str:
        """A URL to which anybody who has it can PUT the bytes of one part, until it expires."""
        return self._store.presign("upload_part", check_key(key), expires_s, UploadId=upload, PartNumber=part)

    def parts(self, key: str, upload: str) -> list[StoredPart]:
        """The parts that the store has, by number.

        Raises:
            UnknownObject: there is no such upload: it was completed or given up.
        """
        answer = self._store.ask("list_parts", check_key(key), UploadId=upload, MaxParts=MAX_PARTS)
        return [
            StoredPart(number=part["PartNumber"], num_bytes=part["Size"], etag=part["ETag"])
            for part in answer.get("Parts", ())
        ]

    def complete(self, key: str, upload: str, parts: Iterable[StoredPart]) -> None:
        """Make one object of the parts; nothing happens when that was done before.

        Raises:
            UnknownObject: there is neither such an upload nor the object.
        """
        listed = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        try:
            self._store.ask(
                "complete_multipart_upload", check_key(key), UploadId=upload, MultipartUpload={"Parts": listed}
            )
        except UnknownObject:
            if not self._store.exists(key):
                raise

    def abort(self, key: str, upload: str) -> None:
        """Give an upload up and remove its parts; nothing happens when there is none."""
        with contextlib.suppress(UnknownObject):
            self._store.ask("abort_multipart_upload", check_key(key), UploadId=upload)
