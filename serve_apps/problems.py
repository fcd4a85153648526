"""Every error answer is a problem document (RFC 9457): ``application/problem+json``.

The ``type`` is ``urn:m2dao:problem:<code>``, where the code is the stable ``code`` of the error class or one of the
API's own codes below. The table is documented in ``docs/api.md``; a test holds the two together.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from m2dao.errors import InputError, M2daoError, NotFound, ServiceUnavailable

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
URN = "urn:m2dao:problem:"
RETRY_AFTER_UNAVAILABLE_S = 2


@dataclass(frozen=True)
class ProblemKind:
    """One row of the table: what a code means over HTTP."""

    status: int
    title: str


PROBLEMS: Mapping[str, ProblemKind] = {
    "missing-credentials": ProblemKind(401, "An API key is needed"),
    "invalid-credentials": ProblemKind(401, "The API key is not valid"),
    "not-found": ProblemKind(404, "There is no such thing"),
    "unknown-render": ProblemKind(404, "There is no such render"),
    "unknown-identity": ProblemKind(404, "There is no such identity"),
    "method-not-allowed": ProblemKind(405, "The method is not allowed here"),
    "render-finished": ProblemKind(409, "The render is finished"),
    "upload-too-large": ProblemKind(413, "The upload is too large"),
    "unsupported-media-type": ProblemKind(415, "The body is of another media type"),
    "malformed-request": ProblemKind(400, "The request cannot be read"),
    "invalid-request": ProblemKind(422, "The request is not valid"),
    "invalid-input": ProblemKind(422, "The input cannot be used"),
    "unreadable-media": ProblemKind(422, "The media cannot be used"),
    "idempotency-conflict": ProblemKind(422, "The idempotency key was used for another request"),
    "quota-exceeded": ProblemKind(429, "Too many renders at once"),
    "internal-error": ProblemKind(500, "Something went wrong on our side"),
    "service-unavailable": ProblemKind(503, "A service behind the API does not answer"),
}
_BY_STATUS = {
    400: "malformed-request",
    401: "missing-credentials",
    404: "not-found",
    405: "method-not-allowed",
    413: "upload-too-large",
    415: "unsupported-media-type",
    422: "invalid-request",
    503: "service-unavailable",
}


class ApiProblem(M2daoError):
    """An error answer that the API itself decides on.

    Args:
        code: a row of ``PROBLEMS``.
        detail: what this client can read about this case; must not tell about other tenants.
        headers: response headers that belong to the answer, e.g. ``Retry-After``.
        errors: the single faults of the request, each with ``field`` and ``detail``.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        headers: Mapping[str, str] | None = None,
        errors: list[dict[str, str]] | None = None,
    ):
        super().__init__(code, detail)
        # The base constructor's arguments name other things; pickling needs ours.
        self.args = (code, detail, headers, errors)
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = list(errors or [])

    def __str__(self) -> str:
        return self.detail or PROBLEMS[self.code].title


def problem_document(code: str, detail: str = "", **more: Any) -> dict[str, Any]:
    """The JSON object of a problem; empty members are left out."""
    kind = PROBLEMS[code]
    document = {"type": URN + code, "title": kind.title, "status": kind.status, "detail": detail, **more}
    return {name: value for name, value in document.items() if value not in ("", None, [])}


def problem_of(error: BaseException) -> dict[str, Any]:
    """The problem document of any error: ours by their code, all others as ``internal-error`` without details."""
    if isinstance(error, ApiProblem):
        return problem_document(error.code, error.detail, errors=error.errors)
    if isinstance(error, ServiceUnavailable):
        return problem_document("service-unavailable", "a service behind the API does not answer; try again")
    if isinstance(error, M2daoError) and error.code in PROBLEMS:
        kind = PROBLEMS[error.code]
        if kind.status < 500:
            return problem_document(error.code, str(error))
    if isinstance(error, NotFound):
        return problem_document("not-found")
    if isinstance(error, InputError):
        return problem_document("invalid-input", str(error))
    return problem_document("internal-error")


def problem_response(document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The HTTP answer of a problem document."""
    return JSONResponse(dict(document), document["status"], headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install_error_handlers(app: FastAPI) -> None:
    """Make every error answer of ``app`` a problem document, those of unknown routes and methods included."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        document = problem_of(error)
        headers = dict(error.headers) if isinstance(error, ApiProblem) else {}
        if document["status"] >= 500:
            log.error("request failed", exc_info=error, extra={"path": request.url.path, "method": request.method})
        if document["status"] == 503:
            headers.setdefault("Retry-After", str(RETRY_AFTER_UNAVAILABLE_S))
        return problem_response(document, headers)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = _BY_STATUS.get(error.status_code, "internal-error" if error.status_code >= 500 else "malformed-request")
        detail = error.detail if error.status_code == 400 else ""
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed_methods(request))
        return problem_response(problem_document(code, detail), headers)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        errors = [
            {"field": ".".join(str(part) for part in fault["loc"]), "detail": str(fault["msg"])}
            for fault in error.errors()
        ]
        return problem_response(problem_document("invalid-request", errors=errors))

    app.add_exception_handler(M2daoError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_middleware(_CatchAll)


def _allowed_methods(request: Request) -> list[str]:
    """All methods of this path; the framework tells only those of the first route that fits."""
    fitting = (route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE)
    return sorted({method for route in fitting for method in getattr(route, "methods", None) or ()})


class _CatchAll:
    """Answers errors that nobody expected. The framework's own handler of last resort answers too, but raises the
    error again, upon which servers cut the connection that the client may be about to use again."""

    def __init__(self, app: ASGIApp):
        self._app = app

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
            await problem_response(problem_of(error))(scope, receive, send)
