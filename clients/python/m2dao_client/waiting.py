"""Waits for what takes long and tells how it goes, by server-sent events where there are some."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from m2dao_client.errors import ApiError, ConnectionFailed, JobFailed, WaitedTooLong, error_of
from m2dao_client.models.base import Model
from m2dao_client.session import Session
from m2dao_client.steps import Call, Close, Emit, Items, Pause, Read, Step

Body = TypeVar("Body", bound=Model)
_EVENTS = "text/event-stream"
_NO_EVENTS = (404, 405, 406, 429)  # then we ask; of an unknown job, asking says so


@dataclass(frozen=True, kw_only=True)
class Watch(Generic[Body]):
    """Something that goes through states.

    Args:
        path: where it is asked for.
        ended: whether a state is the last one.
        has_events: whether `path/events` tells changes.
        every_s: how long to wait between questions.
        timeout_s: when to give up; None waits for as long as it takes.
    """

    session: Session
    kind: type[Body]
    path: str
    ended: Callable[[Body], bool]
    has_events: bool = False
    every_s: float = 2.0
    timeout_s: float | None = None

    def states(self) -> Items[Body]:
        """Emit each state that is new, up to the last one.

        Raises:
            WaitedTooLong: it has not ended in time.
        """
        ends_s = None if self.timeout_s is None else time.monotonic() + self.timeout_s
        last, etag = None, None
        while True:
            if self.has_events:
                state = yield from self._by_events(ends_s)
                if state is not None and self.ended(state):
                    return
            request = self.session.request("GET", self.path, headers={"If-None-Match": etag})
            answer = yield from self.session.send(request)
            if answer.status != 304:
                etag = answer.headers.get("etag")
                state = self.session.body(self.kind, answer)
                if state != last:
                    last = state
                    yield Emit(state)
                if self.ended(state):
                    return
            self._check(ends_s)
            yield Pause(self.every_s)

    def _by_events(self, ends_s: float | None) -> Generator[Step | Emit[Body], Any, Body | None]:
        """Emit what the event stream tells; returns the last state. It may break off at any time."""
        state: Body | None = None
        request = self.session.request("GET", f"{self.path}/events", headers={"Accept": _EVENTS})
        try:
            yield from self.session.open(request)
            lines = _Lines()
            while piece := (yield Read()):
                for event, data in lines.events(piece):
                    if event == "change":
                        state = self.kind.model_validate_json(data)
                        yield Emit(state)
                self._check(ends_s)
            yield Close()
        except ConnectionFailed:
            yield Close()
        except ApiError as error:
            if error.status not in _NO_EVENTS:
                raise
        return state

    def _check(self, ends_s: float | None) -> None:
        if ends_s is not None and time.monotonic() > ends_s:
            raise WaitedTooLong(f"{self.path} has not ended in {self.timeout_s:g} s; it goes on")


class _Lines:
    """Cuts a stream of bytes into server-sent events."""

    def __init__(self) -> None:
        self._rest = b""

    def events(self, piece: bytes) -> Iterator[tuple[str, str]]:
        """The events that are complete now, as (name, data)."""
        *blocks, self._rest = (self._rest + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        for block in blocks:
            fields = [line.partition(":") for line in block.decode("utf-8").split("\n")]
            data = [value.removeprefix(" ") for name, _, value in fields if name == "data"]
            names = [value.strip() for name, _, value in fields if name == "event"]
            if data:
                yield (names[-1] if names else "message"), "\n".join(data)


def last_of(items: Items[Body], on_progress: Callable[[Body], None] | None) -> Call[Body]:
    """The last item of an operation; ``on_progress`` is told each."""
    last: Body | None = None
    try:
        step = next(items)
        while True:
            if isinstance(step, Emit):
                last = step.item
                if on_progress is not None:
                    on_progress(last)
                step = next(items)
                continue
            try:
                result = yield step
            except ConnectionFailed as error:
                step = items.throw(error)
            else:
                step = items.send(result)
    except StopIteration:
        assert last is not None  # a watch emits at least one state
        return last
    finally:
        items.close()


def checked(job: Any, *, good: bool) -> None:
    """Return when a job ended well.

    Raises:
        JobFailed: it did not.
    """
    if not good:
        problem = None if job.error is None else error_of(job.error)
        raise JobFailed(job, problem) from problem
