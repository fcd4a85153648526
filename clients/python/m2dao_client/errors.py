"""What can go wrong: every error of the SDK is one of these."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

URN = "urn:m2dao:problem:"


class M2daoClientError(Exception):
    """The root of all errors of the SDK."""


class ConfigurationError(M2daoClientError):
    """The address of the API or the key is missing."""


class ConnectionFailed(M2daoClientError):
    """No answer came, or it broke off."""


class UnexpectedAnswer(M2daoClientError):
    """An answer that the API never gives: something else listens there, or the SDK is too old."""


class StoreRefused(M2daoClientError):
    """The object store did not take a part of an upload, or give a video."""


class Damaged(M2daoClientError):
    """Bytes are not those that were announced."""


class WaitedTooLong(M2daoClientError):
    """It had not ended when the time to wait was over. It goes on."""


class ApiError(M2daoClientError):
    """An error answer of the API; of a code that this SDK does not know, this class itself.

    Attributes:
        code: stable, for programs, such as `unknown-render`.
        status: the HTTP status.
        title: what the code means.
        detail: what happened in this case.
        errors: the single faults of the request, each with `field` and `detail`.
        request_id: how the platform's logs name the request.
        retry_after_s: when it is worth trying again, if the API said so.
    """

    code: ClassVar[str] = ""
    status: int = 0

    def __init__(self, document: Mapping[str, Any], *, retry_after_s: float | None = None):
        self.title = str(document.get("title", ""))
        self.detail = str(document.get("detail") or "")
        self.status = int(document.get("status", self.status))
        self.errors: list[Mapping[str, str]] = list(document.get("errors") or [])
        self.request_id: str | None = document.get("request_id")
        self.retry_after_s = retry_after_s
        self.document = dict(document)
        super().__init__(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.document, self.retry_after_s)

    def __str__(self) -> str:
        text = f"{self.title}: {self.detail}" if self.detail else self.title
        faults = "".join(f"; {fault.get('field', '')}: {fault.get('detail', '')}" for fault in self.errors)
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{text}{faults}{request}"


def _again(kind: type[ApiError], document: Mapping[str, Any], retry_after_s: float | None) -> ApiError:
    return kind(document, retry_after_s=retry_after_s)


class JobFailed(M2daoClientError):
    """What was waited for ended without a result.

    Attributes:
        job: its last state: a fit, a render or a recording.
        problem: why, if the API said so; also the error's cause.
    """

    def __init__(self, job: Any, problem: ApiError | None):
        self.job, self.problem = job, problem
        state = getattr(job, "status", None) or getattr(job, "state", "")
        super().__init__(f"{job.id} is {state}" + (f": {problem}" if problem else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.job, self.problem)


def error_of(document: Mapping[str, Any], *, retry_after_s: float | None = None) -> ApiError:
    """The exception of a problem document, also of one that is stored with a fit, a render or a recording."""
    from m2dao_client import problems  # it needs the classes above

    code = str(document.get("type", "")).removeprefix(URN)
    kinds = {kind.code: kind for kind in _kinds(ApiError) if kind.__module__ == problems.__name__}
    return kinds.get(code, ApiError)(document, retry_after_s=retry_after_s)


def _kinds(kind: type[ApiError]) -> Iterator[type[ApiError]]:
    for one in kind.__subclasses__():
        yield one
        yield from _kinds(one)


def seconds_of(retry_after: str | None) -> float | None:
    """What a `Retry-After` header asks for; None where it says nothing that can be understood."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        at = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, at.timestamp() - time.time())
