"""Every answer tells a tenant how often it may still ask: the fields of the IETF's RateLimit draft."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

from fastapi import FastAPI, Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.settings import ServeConfig

HEADERS = ("RateLimit", "RateLimit-Policy")
_HELD = "m2dao.rate_limit"
_POLICY = "requests"


@dataclass
class _Held:
    """What the door says of the request's tenant; None before, and when nobody knows whose request it is."""

    left: float | None = None


def install_rate_limits(app: FastAPI, config: ServeConfig) -> None:
    """Let ``app`` say with each answer how often its tenant may ask."""
    app.add_middleware(_RateLimits, rate=config.request_rate, burst=config.request_burst)


def note_rate(request: Request, left: float) -> None:
    """Note how often the tenant of a request may still ask at once."""
    request.scope[_HELD].left = left


class _RateLimits:
    """Adds the headers."""

    def __init__(self, app: ASGIApp, rate: float, burst: float):
        self._app, self._rate, self._burst = app, rate, burst

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held = _Held()

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start" and held.left is not None:
                headers = MutableHeaders(scope=message)
                left = max(0.0, held.left)
                headers[HEADERS[0]] = f'"{_POLICY}";r={floor(left)};t={ceil((self._burst - left) / self._rate)}'
                window_s = max(1, round(self._burst / self._rate))
                headers[HEADERS[1]] = f'"{_POLICY}";q={floor(self._burst)};w={window_s}'
            await send(message)

        # Not in a copy: the layers outside read the route from this scope. Copies of inner layers hold the same object.
        scope[_HELD] = held
        await self._app(scope, receive, with_headers)
