"""How the API is asked: keys, retries, pages, problem documents. Nothing here touches a socket."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from m2dao_client.errors import ApiError, ConnectionFailed, UnexpectedAnswer, error_of, seconds_of
from m2dao_client.models.base import Model
from m2dao_client.steps import Answer, Call, Close, Emit, Items, Open, Pause, Read, Request, Send

Body = TypeVar("Body", bound=Model)
Item = TypeVar("Item")
_SAFE = ("GET", "HEAD")
_PASSING = (429, 502, 503, 504)  # answers after which the same request may succeed
_PROBLEM = "application/problem+json"


@dataclass(frozen=True, kw_only=True)
class Retries:
    """When a request is sent again. Only safe ones and those with an `Idempotency-Key` are.

    Args:
        attempts: how often it is sent at most.
        first_s, most_s: the wait after the first failure, doubled each time; a `Retry-After` counts instead.
        longest_retry_after_s: one that asks for more is not waited for; the error tells how long.
    """

    attempts: int = 5
    first_s: float = 0.5
    most_s: float = 20.0
    longest_retry_after_s: float = 120.0

    def wait_s(self, attempt: int, retry_after_s: float | None) -> float | None:
        """How long to wait after a failed attempt, counted from 1; None when it was the last."""
        if attempt >= self.attempts or (retry_after_s or 0.0) > self.longest_retry_after_s:
            return None
        if retry_after_s is not None:
            return retry_after_s + random.uniform(0, self.first_s)  # those who were sent away do not return at once
        return float(min(self.most_s, self.first_s * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0))


class Session:
    """What all operations of one client share.

    Args:
        url: of the API, such as `https://avatars.example.com`.
        key: an API key or a client token.
        retries: when a request is sent again.
    """

    def __init__(self, url: str, key: str, retries: Retries):
        self._url, self._key, self.retries = url.rstrip("/"), key, retries

    def request(
        self,
        method: str,
        path: str,
        *,
        once: str | None = None,
        repeatable: bool = False,
        headers: Mapping[str, str | None] | None = None,
        **more: Any,
    ) -> Request:
        """A request of a route.

        Args:
            once: the caller's own name for a create, so that repeating it makes nothing a second time.
            repeatable: whether the route may be asked again, although it is neither safe nor keyed.
            more: see ``Request``.
        """
        told = {name: value for name, value in (headers or {}).items() if value is not None}
        if once is not None:
            told["Idempotency-Key"] = once
        told["Authorization"] = f"Bearer {self._key}"
        may_repeat = repeatable or once is not None or method in _SAFE
        return Request(method=method, url=f"{self._url}{path}", repeatable=may_repeat, headers=told, **more)

    def send(self, request: Request) -> Call[Answer]:
        """Send a request, again where that may help.

        Raises:
            ApiError: what the API answered.
            ConnectionFailed: no answer came.
        """
        return (yield from self._tried(request, lambda: self._whole(request)))

    def open(self, request: Request) -> Call[Answer]:
        """Send a request and leave its answer open; raises what ``send`` raises."""
        return (yield from self._tried(request, lambda: self._begun(request)))

    def get(self, kind: type[Body], path: str, **more: Any) -> Call[Body]:
        """Ask for a body."""
        return self.body(kind, (yield from self.send(self.request("GET", path, **more))))

    def body(self, kind: type[Body], answer: Answer) -> Body:
        """The body of an answer.

        Raises:
            UnexpectedAnswer: it is not what the API promises.
        """
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as error:
            raise UnexpectedAnswer(f"not a {kind.__name__}: {answer.content[:200]!r}; is that the API?") from error

    def items(
        self, kind: type[Body], path: str, of: Callable[[Body], list[Item]], *, cursor: str = "after", **query: Any
    ) -> Items[Item]:
        """Emit all items of a list, page by page.

        Args:
            of: the items of a page.
            cursor: the parameter that takes `next` of the page before.
            query: filters; those that are None are not sent.
        """
        told = {name: value for name, value in query.items() if value is not None}
        while True:
            page = yield from self.get(kind, path, query=told)
            for item in of(page):
                yield Emit(item)
            following = getattr(page, "next", None)
            if following is None:
                return
            told[cursor] = following

    def _tried(self, request: Request, trial: Callable[[], Call[Answer]]) -> Call[Answer]:
        attempt = 0
        while True:
            attempt += 1
            failure: ApiError | ConnectionFailed
            try:
                answer = yield from trial()
            except ConnectionFailed as error:
                failure, after_s, passing = error, None, True
            else:
                if answer.status < 400:
                    return answer
                failure = problem_of(answer)
                after_s, passing = failure.retry_after_s, answer.status in _PASSING
            wait_s = self.retries.wait_s(attempt, after_s) if request.repeatable and passing else None
            if wait_s is None:
                raise failure
            yield Pause(wait_s)

    def _whole(self, request: Request) -> Call[Answer]:
        answer: Answer = yield Send(request)
        return answer

    def _begun(self, request: Request) -> Call[Answer]:
        answer: Answer = yield Open(request)
        if answer.status < 400:
            return answer
        content = b""
        while piece := (yield Read()):
            content += piece
        yield Close()
        return Answer(answer.status, answer.headers, content)


def new_key() -> str:
    """A name for a request that no other has."""
    return uuid.uuid4().hex


def problem_of(answer: Answer) -> ApiError:
    """The error of an answer; one that is no problem document comes from something before the API."""
    after_s = seconds_of(answer.headers.get("retry-after"))
    kind = answer.headers.get("content-type", "").partition(";")[0].strip()
    try:
        document = json.loads(answer.content) if kind == _PROBLEM else None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {"title": f"HTTP {answer.status}", "status": answer.status}
    return error_of(document, retry_after_s=after_s)
