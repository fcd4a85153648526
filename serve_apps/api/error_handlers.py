"""Every error answer of the API is a problem document, those of unknown routes and methods included."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.telemetry.scope import REQUEST, scope
from m2dao.errors import M2daoError
from serve_apps.problems import MEDIA_TYPE, URN, ApiProblem, problem_document, problem_of

log = logging.getLogger(__name__)
RETRY_AFTER_UNAVAILABLE_S = 2
RETRY_AFTER_MAINTENANCE_S = 60
RETRY_AFTER_LIMIT_S = 60  # such as too many recordings: one must end or be deleted first
_MAINTENANCE = f"{URN}maintenance"
_BY_STATUS = {
    400: "malformed-request",
    401: "missing-credentials",
    404: "not-found",
    405: "method-not-allowed",
    408: "upload-too-slow",
    413: "upload-too-large",
    415: "unsupported-media-type",
    422: "invalid-request",
    503: "service-unavailable",
}


OnProblem = Callable[[Mapping[str, Any]], None]
"""Called with every problem document that is answered."""


def install_error_handlers(app: FastAPI, on_problem: OnProblem) -> None:
    """Make every error answer of ``app`` a problem document, those of unknown routes and methods included."""

    def answer(document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
        on_problem(document)
        named = {"request_id": scope()[REQUEST]} if REQUEST in scope() else {}
        again = {"Retry-After": str(wait_s)} if (wait_s := _wait_s(document)) else {}
        headers = {**again, **(headers or {})}
        return JSONResponse({**document, **named}, document["status"], headers, MEDIA_TYPE)

    async def ours(request: Request, error: Exception) -> JSONResponse:
        document = problem_of(error)
        headers = dict(error.headers) if isinstance(error, ApiProblem) else {}
        if document["status"] >= 500 and document["type"] != _MAINTENANCE:  # which an operator chose
            log.error("request failed", exc_info=error, extra={"path": request.url.path, "method": request.method})
        return answer(document, headers)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = _BY_STATUS.get(error.status_code, "internal-error" if error.status_code >= 500 else "malformed-request")
        detail = error.detail if error.status_code == 400 else ""
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed_methods(request))
        return answer(problem_document(code, detail), headers)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        errors = [
            {"field": ".".join(str(part) for part in fault["loc"]), "detail": str(fault["msg"])}
            for fault in error.errors()
        ]
        return answer(problem_document("invalid-request", errors=errors))

    app.add_exception_handler(M2daoError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_middleware(_CatchAll, answer=answer)


def _wait_s(document: Mapping[str, Any]) -> int | None:
    """When to come again, where nobody knows better; None for what will not be over soon."""
    if document["status"] == 503:
        return RETRY_AFTER_MAINTENANCE_S if document["type"] == _MAINTENANCE else RETRY_AFTER_UNAVAILABLE_S
    return RETRY_AFTER_LIMIT_S if document["status"] == 429 else None


def _allowed_methods(request: Request) -> list[str]:
    """All methods of this path; the framework tells only those of the first route that fits."""
    routes = iter_route_contexts(request.app.routes)  # those of included routers too
    fitting = (route for route in routes if route.matches(request.scope)[0] != Match.NONE)
    methods = {method for route in fitting for method in route.methods or ()}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


class _CatchAll:
    """Answers errors that nobody expected.

    The framework's own handler of last resort answers too, but raises the error again. Servers then cut the
    connection, which the client may be about to use again.
    """

    def __init__(self, app: ASGIApp, answer: Callable[[Mapping[str, Any]], JSONResponse]):
        self._app, self._answer = app, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def noticing(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noticing)
        except Exception as error:
            if has_begun:  # too late for another answer: cutting the connection is the honest one
                raise
            log.error("request failed", exc_info=error, extra={"path": scope["path"], "method": scope["method"]})
            await self._answer(problem_of(error))(scope, receive, send)
