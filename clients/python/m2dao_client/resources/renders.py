"""Renders: videos of identities that speak."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from m2dao_client.errors import ConnectionFailed, Damaged, UnexpectedAnswer
from m2dao_client.files import Arriving, Transfer
from m2dao_client.models import Render, RenderList
from m2dao_client.paths import path_of
from m2dao_client.resource import Awaited, Blocking, Resource, iteration, operation
from m2dao_client.session import new_key
from m2dao_client.steps import Call, Close, Emit, Items, Pause, Read, Work
from m2dao_client.waiting import Watch, checked, last_of

_ENDED = ("done", "failed", "cancelled")
Status = Literal["queued", "running", "done", "failed", "cancelled"]


class RenderOperations(Resource):
    """What can be done with renders."""

    @operation
    def create(
        self,
        identity: str,
        audio: str | Path | bytes,
        *,
        background: str | None = None,
        background_image: str | Path | bytes | None = None,
        once: str | None = None,
    ) -> Call[Render]:
        """Queue a video of an identity that speaks a sound.

        Args:
            identity: `anna` (its champion), `anna@champion`, `anna@7`.
            audio: a sound file, or its bytes.
            background: `plate` or `#rrggbb`.
            background_image: a picture instead.
            once: your own name for this request; the same name makes nothing a second time.
        """
        files = {"audio": (yield from _file(audio, "audio"))}
        if background_image is not None:
            files["background_image"] = yield from _file(background_image, "background")
        form = {"identity": identity} | ({} if background is None else {"background": background})
        request = self._session.request("POST", "/v1/renders", once=once or new_key(), form=form, files=files)
        return self._session.body(Render, (yield from self._session.send(request)))

    @iteration
    def list(
        self,
        *,
        status: Status | None = None,
        identity: str | None = None,
        version: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Items[Render]:
        """Your renders, the newest first.

        Args:
            since: only those made at this time or later.
            until: only those made before this time.
        """
        times = {
            "since": None if since is None else since.isoformat(),
            "until": None if until is None else until.isoformat(),
        }
        filters: dict[str, Any] = {"status": status, "identity": identity, "version": version, **times}
        yield from self._session.items(RenderList, "/v1/renders", lambda page: page.renders, **filters)

    @operation
    def get(self, render_id: str) -> Call[Render]:
        """How far a render is; when done, where the video is."""
        return (yield from self._session.get(Render, path_of("v1", "renders", render_id)))

    @operation
    def cancel(self, render_id: str) -> Call[Render]:
        """Cancel a queued or running render; of a cancelled one, nothing changes."""
        request = self._session.request("DELETE", path_of("v1", "renders", render_id), repeatable=True)
        return self._session.body(Render, (yield from self._session.send(request)))

    @operation
    def retry(self, render_id: str) -> Call[Render]:
        """Make a render in place of one that failed, once only."""
        request = self._session.request("POST", path_of("v1", "renders", render_id, "retry"), repeatable=True)
        return self._session.body(Render, (yield from self._session.send(request)))

    @iteration
    def watch(self, render_id: str, *, timeout_s: float | None = None) -> Items[Render]:
        """Each change of a render, until it has ended."""
        yield from self._watch(render_id, timeout_s).states()

    @operation
    def wait(
        self, render_id: str, *, on_progress: Callable[[Render], None] | None = None, timeout_s: float | None = None
    ) -> Call[Render]:
        """Wait for a render to be done.

        Raises:
            JobFailed: it failed or was cancelled.
            WaitedTooLong: it goes on.
        """
        render = yield from last_of(self._watch(render_id, timeout_s).states(), on_progress)
        checked(render, good=render.status == "done")
        return render

    @operation
    def download(
        self, render_id: str, path: str | Path, *, on_progress: Callable[[Transfer], None] | None = None
    ) -> Call[Path]:
        """Save the video of a finished render; one that breaks off goes on where it was.

        Raises:
            Damaged: the bytes are not those of the render; nothing is kept.
        """
        render = yield from self._session.get(Render, path_of("v1", "renders", render_id))
        checked(render, good=render.result is not None)
        assert render.result is not None
        path, total = Path(path), render.result.num_bytes
        arriving: Arriving = yield Work(functools.partial(Arriving, path))
        try:
            for attempt in range(1, self._session.retries.attempts + 1):
                try:
                    yield from self._fetch(render_id, arriving, total, on_progress)
                    break
                except ConnectionFailed:
                    wait_s = self._session.retries.wait_s(attempt, None)
                    if wait_s is None:
                        raise
                    yield Close()
                    yield Pause(wait_s)
            if not (yield Work(functools.partial(arriving.finish, render.result.sha256))):
                raise Damaged(f"the bytes that came of the video of {render_id} are not those of the render")
        finally:
            arriving.give_up()
        return path

    @iteration
    def video(self, render_id: str) -> Items[bytes]:
        """The video of a finished render, piece by piece as it comes."""
        yield from self._session.open(self._session.request("GET", path_of("v1", "renders", render_id, "video")))
        while piece := (yield Read()):
            yield Emit(piece)

    def _fetch(
        self, render_id: str, arriving: Arriving, total: int, on_progress: Callable[[Transfer], None] | None
    ) -> Call[None]:
        begin = arriving.num_bytes
        headers = {"Range": f"bytes={begin}-" if begin else None}
        path = path_of("v1", "renders", render_id, "video")
        answer = yield from self._session.open(self._session.request("GET", path, headers=headers))
        if begin and answer.status != 206:
            raise UnexpectedAnswer("the rest of the video was asked for, and all of it came")
        while piece := (yield Read()):
            yield Work(functools.partial(arriving.add, piece))
            if on_progress is not None:
                on_progress(Transfer(arriving.num_bytes, total))
        yield Close()

    def _watch(self, render_id: str, timeout_s: float | None) -> Watch[Render]:
        return Watch(
            session=self._session,
            kind=Render,
            path=path_of("v1", "renders", render_id),
            ended=lambda render: render.status in _ENDED,
            has_events=True,
            every_s=1.0,
            timeout_s=timeout_s,
        )


def _file(content: str | Path | bytes, name: str) -> Call[tuple[str, bytes]]:
    """A file of a form: its name and its bytes."""
    if isinstance(content, bytes):
        return name, content
    path = Path(content)
    found: bytes = yield Work(path.read_bytes)
    return path.name, found


class Renders(RenderOperations, Blocking):
    """Renders, for code that waits."""


class AsyncRenders(RenderOperations, Awaited):
    """Renders, for code with an event loop."""
