"""What browsers, players and monitors expect: HEAD, and answers to pages of other origins."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_IS_HEAD = "m2dao.is_head"
_METHODS = ("GET", "HEAD", "POST", "DELETE")
_REQUEST_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "Range", "X-Request-Id", "traceparent")
_ANSWER_HEADERS = (
    *("Content-Range", "Content-Length", "Accept-Ranges", "ETag", "Location", "Retry-After"),
    "X-Request-Id",
)


def install_web_manners(app: FastAPI, allowed_origins: tuple[str, ...]) -> None:
    """Let ``app`` answer HEAD wherever it answers GET, and pages of ``allowed_origins``."""
    app.add_middleware(_Head)
    if allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=allowed_origins,
            allow_methods=_METHODS,
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_ANSWER_HEADERS,
            max_age=3600,
        )


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
