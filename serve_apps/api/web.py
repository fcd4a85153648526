"""What browsers, players and monitors expect: HEAD, and answers to pages of other origins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fastapi import FastAPI, Request
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_apps.api.rate_limits import HEADERS as RATE_HEADERS

_RENDERS = "/v1/renders"
_LONGEST_ORIGIN = 300
_IS_HEAD = "m2dao.is_head"
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "Range",
    "X-Request-Id",
    "traceparent",
)
_ANSWER_HEADERS = (
    *("Content-Range", "Content-Length", "Accept-Ranges", "ETag", "Location", "Retry-After"),
    *("X-Request-Id", "Link", *RATE_HEADERS),
)


MayCall = Callable[[str], Awaitable[bool]]
"""Whether pages of an origin may make renders, although no setting names it."""


def install_web_manners(app: FastAPI, allowed_origins: tuple[str, ...], may_call: MayCall) -> None:
    """Let ``app`` answer HEAD wherever it answers GET, and pages of other origins.

    Args:
        app: the application.
        allowed_origins: origins of pages that may call all routes.
        may_call: asked about the others, for the routes of renders.
    """
    app.add_middleware(_Head)
    app.add_middleware(_OtherOrigins, allowed_origins=allowed_origins, may_call=may_call)


def _for_pages(app: ASGIApp, origins: Sequence[str]) -> CORSMiddleware:
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=_REQUEST_HEADERS,
        expose_headers=_ANSWER_HEADERS,
        max_age=3600,
    )


class _OtherOrigins:
    """Answers pages of other origins: of the setting everywhere, with client tokens about renders."""

    def __init__(self, app: ASGIApp, allowed_origins: tuple[str, ...], may_call: MayCall):
        self._app, self._origins, self._may_call = app, allowed_origins, may_call
        self._for_settings = _for_pages(app, allowed_origins) if allowed_origins else app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._for_settings
        if scope["type"] == "http" and scope["path"].startswith(_RENDERS):
            origin = Headers(scope=scope).get("origin", "")
            named = origin in self._origins or "*" in self._origins
            if origin and not named and await self._may_call(origin[:_LONGEST_ORIGIN]):
                answer = _for_pages(self._app, (origin,))
        await answer(scope, receive, send)


def is_head(request: Request) -> bool:
    """Whether only the headers are wanted; a route that would fetch much for the body may ask."""
    return bool(request.scope.get(_IS_HEAD))


class _Head:
    """Answers HEAD as GET is answered, without the body."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET", _IS_HEAD: True}, receive, without_body)
