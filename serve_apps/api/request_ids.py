"""Every request has a name: the client's ``X-Request-Id``, or a new one. And it may have a span.

Log lines tell the name, jobs keep it, and the answer returns it, in a header and in problem documents. The span belongs
to the trace that the client names by ``traceparent``; anything but one proper header begins a trace of its own.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.telemetry.scope import REQUEST, is_request_id, new_request_id, working_for
from cluster.telemetry.traces import spans

HEADER = "X-Request-Id"
_TRACE_HEADER = "traceparent"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # others are named alike: names stay few
_UNTRACED = ("/healthz", "/readyz")  # asked every second, by what only looks whether we are there


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
        sent = _values(scope, HEADER)
        is_proper = len(sent) == 1 and is_request_id(sent[0])
        request_id = sent[0] if is_proper else new_request_id()

        status = 0

        async def with_header(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            # A header that came twice would be answered twice, too.
            if message["type"] == "http.response.start" and not (is_proper and self._front_returns_them):
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with working_for(**{REQUEST: request_id}):
            if not spans.is_tracing() or scope["path"] in _UNTRACED:
                await self._app(scope, receive, with_header)
                return
            method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
            parent = spans.sent_traceparent(_values(scope, _TRACE_HEADER))
            with spans.span(method, kind="SERVER", parent=parent) as span:
                await self._app(scope, receive, with_header)
                route = getattr(scope.get("route"), "path", "")  # its pattern; what the client wrote may be anything
                told = {"request_method": method, "route": route, "response_status_code": status}
                span.set_http(f"{method} {route}".strip(), **told)
                if status >= 500:
                    span.fail(str(status))


def _values(scope: Scope, header: str) -> list[str]:
    name = header.lower().encode()
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
