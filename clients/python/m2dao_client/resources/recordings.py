"""Recordings: videos of people, sent in parts straight to the object store."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from m2dao_client.errors import ApiError, Damaged, StoreRefused
from m2dao_client.files import FileFacts, Transfer, facts_of, part_of
from m2dao_client.models import PartUrl, Recording, RecordingList, Upload
from m2dao_client.paths import path_of
from m2dao_client.problems import Conflict
from m2dao_client.resource import Awaited, Blocking, Resource, iteration, operation
from m2dao_client.session import new_key
from m2dao_client.steps import Call, Items, Request, Work
from m2dao_client.waiting import Watch, checked, last_of

_ENDED = ("ready", "refused")
_ROUNDS = 4  # fresh URLs for parts that were refused, at most
OnTransfer = Callable[[Transfer], None]


class RecordingOperations(Resource):
    """What can be done with recordings."""

    @operation
    def upload(
        self, path: str | Path, *, name: str | None = None, on_progress: OnTransfer | None = None
    ) -> Call[Recording]:
        """Upload a video; the same bytes are one recording, and an upload that broke off goes on.

        The answer may still be looked into: see ``wait``.

        Args:
            name: for people; else the file's own.
            on_progress: told after each part.

        Raises:
            Damaged: the file changes meanwhile.
            StoreRefused: the object store does not take it.
        """
        path = Path(path)
        facts: FileFacts = yield Work(functools.partial(facts_of, path))
        wish = {"name": name or path.name, "num_bytes": facts.num_bytes, "sha256": facts.sha256}
        request = self._session.request("POST", "/v1/recordings", once=new_key(), json=wish)
        recording = self._session.body(Recording, (yield from self._session.send(request)))
        if recording.state != "uploading":
            return recording
        upload = recording.upload
        for last in (False,) * (_ROUNDS - 1) + (True,):
            if upload is None:
                upload = yield from self._session.get(Upload, path_of("v1", "recordings", recording.id, "parts"))
            try:
                yield from self._send_parts(path, upload, facts, on_progress)
                return (yield from self._complete(recording.id))
            except (StoreRefused, Conflict):  # its URLs have ended, or the store has lost a part
                if last:
                    raise
            upload = None
        raise AssertionError("the last round returns or raises")

    @operation
    def complete(self, recording_id: str) -> Call[Recording]:
        """End an upload once all parts are stored; ``upload`` does it by itself."""
        return (yield from self._complete(recording_id))

    @operation
    def parts(self, recording_id: str) -> Call[Upload]:
        """Which parts the store has, and fresh URLs for the others."""
        return (yield from self._session.get(Upload, path_of("v1", "recordings", recording_id, "parts")))

    @iteration
    def list(self) -> Items[Recording]:
        """All your recordings, the newest first."""
        yield from self._session.items(RecordingList, "/v1/recordings", lambda page: page.recordings)

    @operation
    def get(self, recording_id: str) -> Call[Recording]:
        """One recording; when ready, what is in it."""
        return (yield from self._session.get(Recording, path_of("v1", "recordings", recording_id)))

    @operation
    def delete(self, recording_id: str) -> Call[None]:
        """Delete a recording, or give its upload up."""
        yield from self._session.send(self._session.request("DELETE", path_of("v1", "recordings", recording_id)))

    @operation
    def wait(
        self,
        recording_id: str,
        *,
        on_progress: Callable[[Recording], None] | None = None,
        timeout_s: float | None = None,
    ) -> Call[Recording]:
        """Wait for a recording to be ready.

        Raises:
            JobFailed: it cannot be fitted.
            WaitedTooLong: it is still looked into.
        """
        watch = Watch(
            session=self._session,
            kind=Recording,
            path=path_of("v1", "recordings", recording_id),
            ended=lambda found: found.state in _ENDED,
            timeout_s=timeout_s,
        )
        recording = yield from last_of(watch.states(), on_progress)
        checked(recording, good=recording.state == "ready")
        return recording

    def _send_parts(self, path: Path, upload: Upload, facts: FileFacts, on_progress: OnTransfer | None) -> Call[None]:
        done = sum(part.num_bytes for part in upload.stored)
        for part in upload.missing:
            begin = (part.number - 1) * upload.part_bytes
            content: bytes = yield Work(functools.partial(part_of, path, begin, part.num_bytes))
            if len(content) != part.num_bytes:
                raise Damaged(f"{path} has become shorter while it was sent")
            yield from self._send_part(part, content)
            done += part.num_bytes
            if on_progress is not None:
                on_progress(Transfer(done, facts.num_bytes))

    def _send_part(self, part: PartUrl, content: bytes) -> Call[None]:
        request = Request(method="PUT", url=part.url, repeatable=True, content=content)
        try:
            yield from self._session.send(request)
        except ApiError as error:  # the store has no problem documents
            raise StoreRefused(f"the object store answered {error.status} to part {part.number}") from error

    def _complete(self, recording_id: str) -> Call[Recording]:
        path = path_of("v1", "recordings", recording_id, "complete")
        request = self._session.request("POST", path, repeatable=True)
        return self._session.body(Recording, (yield from self._session.send(request)))


class Recordings(RecordingOperations, Blocking):
    """Recordings, for code that waits."""


class AsyncRecordings(RecordingOperations, Awaited):
    """Recordings, for code with an event loop."""
