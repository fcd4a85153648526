"""Changes of jobs as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from cluster.state.records import JobRecord
from serve_apps.api.waiting.job_changes import JobChanges
from serve_apps.api.web import is_head

MEDIA_TYPE = "text/event-stream"
EVENT_STREAM = {"description": "Server-sent events named `change`.", "content": {MEDIA_TYPE: {}}}
LONGEST_S = 3600.0  # of one stream; browsers come again by themselves
_ALIVE_S = 15.0  # between comments that keep proxies from giving up
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def event_stream(
    request: Request, changes: JobChanges, job: JobRecord, body_of: Callable[[JobRecord], BaseModel]
) -> Response:
    """The states of a job from now on, each as ``body_of`` shows it, until it has ended.

    Raises:
        ApiProblem: 429, there are too many who listen.
    """
    if is_head(request):
        return Response(media_type=MEDIA_TYPE, headers=_HEADERS)
    following = contextlib.AsyncExitStack()
    states = await following.enter_async_context(changes.follow(job.tenant, job.id))

    async def events() -> AsyncGenerator[str, None]:
        async for state in _with_silence(states(LONGEST_S)):
            if state is None:
                yield ": alive\n\n"
            else:
                text = body_of(state).model_dump_json()
                yield f"event: change\nid: {state.updated_s:.6f}\ndata: {text}\n\n"

    return _Stream(events(), following)


class _Stream(StreamingResponse):
    """Events as they come; whoever goes away leaves his place."""

    def __init__(self, events: AsyncGenerator[str, None], following: contextlib.AsyncExitStack):
        super().__init__(events, headers=_HEADERS, media_type=MEDIA_TYPE)
        self._events, self._following = events, following

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._following, contextlib.aclosing(self._events):
            await super().__call__(scope, receive, send)


async def _with_silence(states: AsyncIterator[JobRecord]) -> AsyncGenerator[JobRecord | None, None]:
    """The states, and None whenever there was none for a while."""
    waiting: asyncio.Future[JobRecord | None] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(states, None))
            done, _ = await asyncio.wait({waiting}, timeout=_ALIVE_S)
            if not done:
                yield None
                continue
            state, waiting = waiting.result(), None
            if state is None:
                return
            yield state
    finally:
        if waiting is not None:
            waiting.cancel()
