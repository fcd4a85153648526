"""Every request has a name: the client's ``X-Request-Id``, or a new one.

Log lines tell it, jobs keep it, and the answer returns it, in a header and in problem documents.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.telemetry.scope import REQUEST, is_request_id, new_request_id, working_for

HEADER = "X-Request-Id"


def install_request_ids(app: FastAPI, *, front_returns_them: bool) -> None:
    """Name every request of ``app``.

    Args:
        front_returns_them: whether a server in front returns the header of the request by itself, as Ray Serve does.
    """
    app.add_middleware(_RequestIds, front_returns_them=front_returns_them)


class _RequestIds:
    """Opens the scope of a request."""

    def __init__(self, app: ASGIApp, front_returns_them: bool):
        self._app, self._front_returns_them = app, front_returns_them

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = [value.decode("latin-1") for name, value in scope["headers"] if name == HEADER.lower().encode()]
        is_proper = len(sent) == 1 and is_request_id(sent[0])
        request_id = sent[0] if is_proper else new_request_id()

        async def with_header(message: Message) -> None:
            # A header that came twice would be answered twice, too.
            if message["type"] == "http.response.start" and not (is_proper and self._front_returns_them):
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with working_for(**{REQUEST: request_id}):
            await self._app(scope, receive, with_header)
