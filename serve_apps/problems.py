"""Every error answer is a problem document (RFC 9457): ``application/problem+json``.

The ``type`` is ``urn:m2dao:problem:<code>``, where the code is the stable ``code`` of the error class or one of the
API's own codes below. The table is documented in ``docs/reference/errors.md``; a test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.state.problems import Problem
from m2dao.errors import (
    NO_ROOM,
    Conflict,
    InputError,
    M2daoError,
    NotFound,
    ServiceUnavailable,
    UnderMaintenance,
    UnknownRecording,
)

MEDIA_TYPE = "application/problem+json"
URN = "urn:m2dao:problem:"
MAINTENANCE_DETAIL = "maintenance: what was accepted is finished and can be read; try again later"
_FOLDERS = re.compile(r"(?<![\w/:])/(?:[^\s/:;,'\"]+/)*(?=[^\s/])")  # of an absolute path; the file's own name stays
_SETTING = re.compile(r"\bM2DAO_[A-Z0-9_]+")


@dataclass(frozen=True)
class ProblemKind:
    """One row of the table: what a code means over HTTP."""

    status: int
    title: str


PROBLEMS: Mapping[str, ProblemKind] = {
    "missing-credentials": ProblemKind(401, "An API key is needed"),
    "invalid-credentials": ProblemKind(401, "The API key is not valid"),
    "wrong-origin": ProblemKind(403, "The client token belongs to pages of another origin"),
    "missing-scope": ProblemKind(403, "The API key or client token may not do this"),
    "not-found": ProblemKind(404, "There is no such thing"),
    "unknown-render": ProblemKind(404, "There is no such render"),
    "unknown-identity": ProblemKind(404, "There is no such identity"),
    "unknown-key": ProblemKind(404, "There is no such API key"),
    "unknown-token": ProblemKind(404, "There is no such client token"),
    "method-not-allowed": ProblemKind(405, "The method is not allowed here"),
    "already-exists": ProblemKind(409, "There is one of that name"),
    "conflict": ProblemKind(409, "It has changed, or is not in a state that allows this"),
    "promotion-conflict": ProblemKind(412, "The champion is not the version that was expected"),
    "promotion-refused": ProblemKind(409, "The version may not become the champion"),
    "precondition-required": ProblemKind(428, "The request must say what it has seen"),
    "no-video": ProblemKind(404, "There is no video"),
    "range-not-satisfiable": ProblemKind(416, "The file has no such part"),
    "not-failed": ProblemKind(409, "The render has not failed"),
    "sound-gone": ProblemKind(409, "The sound of the render is not kept any more"),
    "render-finished": ProblemKind(409, "The render is finished"),
    "upload-too-slow": ProblemKind(408, "The upload came too slowly"),
    "upload-too-large": ProblemKind(413, "The upload is too large"),
    "recording-too-large": ProblemKind(413, "The recording is too large"),
    "recording-rejected": ProblemKind(422, "The recording cannot be fitted"),
    "upload-damaged": ProblemKind(422, "The bytes are not those that were announced"),
    "unknown-fit": ProblemKind(404, "There is no such fit"),
    "too-many-fits": ProblemKind(429, "Too many fits at once"),
    "unknown-webhook": ProblemKind(404, "There is no such webhook or delivery"),
    "unknown-recording": ProblemKind(404, "There is no such recording"),
    "unknown-batch": ProblemKind(404, "There is no such batch"),
    "too-many-batches": ProblemKind(429, "Too many batches at once"),
    "storage-full": ProblemKind(429, "There is no room for more recordings"),
    "unsupported-media-type": ProblemKind(415, "The body is of another media type"),
    "malformed-request": ProblemKind(400, "The request cannot be read"),
    "invalid-request": ProblemKind(422, "The request is not valid"),
    "invalid-input": ProblemKind(422, "The input cannot be used"),
    "unreadable-media": ProblemKind(422, "The media cannot be used"),
    "idempotency-conflict": ProblemKind(422, "The idempotency key was used for another request"),
    "quota-exceeded": ProblemKind(429, "Too many renders at once"),
    "too-many-uploads": ProblemKind(429, "Too many uploads at once"),
    "too-many-requests": ProblemKind(429, "Too many requests"),
    "internal-error": ProblemKind(500, "Something went wrong on our side"),
    "maintenance": ProblemKind(503, "Nothing new is accepted for now"),
    "service-unavailable": ProblemKind(503, "A service behind the API does not answer"),
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
    """The problem document of any error: ours by code, others as ``internal-error`` without details."""
    if isinstance(error, ApiProblem):
        return problem_document(error.code, error.detail, errors=error.errors)
    if isinstance(error, UnderMaintenance):
        return problem_document("maintenance", MAINTENANCE_DETAIL)
    if isinstance(error, ServiceUnavailable):
        return problem_document("service-unavailable", "a service behind the API does not answer; try again")
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return problem_document("service-unavailable", "there is no room for this now; try again")
    if isinstance(error, UnknownRecording):  # whatever was asked for, the answer is the same
        return problem_document(error.code, "no recording of that id")
    if isinstance(error, M2daoError) and error.code in PROBLEMS:
        kind = PROBLEMS[error.code]
        if kind.status < 500:
            return problem_document(error.code, _told(error))
    if isinstance(error, NotFound):
        return problem_document("not-found")
    if isinstance(error, InputError):
        return problem_document("invalid-input", _told(error))
    if isinstance(error, Conflict):
        return problem_document("conflict", _told(error))
    return problem_document("internal-error")


def _told(error: BaseException) -> str:
    """What of an error's message a client may read: no folders of ours, and no names of settings."""
    return _told_of(str(error))


def _told_of(text: str) -> str:
    return _SETTING.sub("a setting", _FOLDERS.sub("", text))


def stored_problem(error: BaseException) -> Problem:
    """What of an error is stored with a job: no more than its tenant may read."""
    document = problem_of(error)
    code = document["type"].removeprefix(URN)
    return Problem(code=code, title=document["title"], detail=document.get("detail", ""))


def document_for_tenant(stored: Problem) -> dict[str, Any]:
    """``document_of`` for a problem stored for operators: no folders, no settings, no faults of ours."""
    if stored.code in PROBLEMS and PROBLEMS[stored.code].status < 500:
        return problem_document(stored.code, _told_of(stored.detail))
    return problem_document("internal-error", stored.title)


def document_of(stored: Problem) -> dict[str, Any]:
    """The problem document of a job's stored error; of the job store's own words only the title is shown."""
    if stored.code in PROBLEMS:
        return problem_document(stored.code, stored.detail)
    return problem_document("internal-error", stored.title)
