"""Spans of this process; none is made until ``start_traces`` is told where they go.

    with span("decode") as made:
        made.set(seconds=2.5)

What is inside belongs to it, in threads too that were given ``carried(call)``. Nothing of Ray Serve's own tracing
crosses Redis. So a job keeps the ``traceparent`` (W3C) of the request that made it, and whoever works on the job
continues there: each attempt is a span of the same trace.

A span holds what log lines hold: request, tenant and job, numbers, and the code of an error, never its message.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from cluster.telemetry.scope import scope
from m2dao.errors import M2daoError

if TYPE_CHECKING:
    from opentelemetry import trace as otel

PREFIX = "m2dao."  # of the names of our attributes
ERROR = "error.type"
_MAX_HEADER = 128  # characters; those of the version that is in use have 55
Kind = Literal["INTERNAL", "SERVER", "CONSUMER"]
Value = str | float | bool
Item = TypeVar("Item")

_tracer: otel.Tracer | None = None  # of this process, as the logging of Python is


def use_tracer(tracer: otel.Tracer | None) -> None:
    """Let spans be made by this tracer from now on; by none, nothing is made."""
    global _tracer
    _tracer = tracer


def is_tracing() -> bool:
    """Whether this process makes spans."""
    return _tracer is not None


class Span:
    """A span that goes on, or nothing where no traces are wanted."""

    def __init__(self, made: otel.Span | None = None):
        self._made = made

    def set(self, **attributes: Value) -> None:
        """Note what has become known."""
        if self._made is not None:
            self._made.set_attributes({PREFIX + name: value for name, value in attributes.items()})

    def set_http(self, name: str, **attributes: Value) -> None:
        """Name a span of a request, and note what OpenTelemetry's own names say, such as ``request_method``."""
        if self._made is not None:
            self._made.update_name(name)
            self._made.set_attributes({f"http.{key.replace('_', '.', 1)}": value for key, value in attributes.items()})

    def fail(self, error: BaseException | str) -> None:
        """Note that it went wrong, by the code of the error."""
        if self._made is not None:
            _fail(self._made, error)


_NOTHING = Span()
_END = object()


@contextlib.contextmanager
def span(name: str, *, kind: Kind = "INTERNAL", parent: str = "", **attributes: Value) -> Iterator[Span]:
    """A span around what is inside.

    Args:
        name: what is done; few different ones.
        kind: of OpenTelemetry.
        parent: a ``traceparent`` that it belongs to; what surrounds it by default.
        attributes: what is known of it.
    """
    if _tracer is None:
        yield _NOTHING
        return
    from opentelemetry import trace as otel

    made = _tracer.start_span(name, context=_context_of(parent), kind=otel.SpanKind[kind])
    inside = Span(made)
    inside.set(**attributes)
    try:
        with otel.use_span(made, record_exception=False, set_status_on_exception=False):
            yield inside
    except Exception as error:
        inside.fail(error)
        raise
    finally:
        inside.set(**scope())  # with what was learnt on the way
        made.end()


def record(name: str, start_s: float, end_s: float, *, error: BaseException | str = "", **attributes: Value) -> None:
    """A span that is over, from and to Unix times: of waiting, say, that nobody was beside."""
    if _tracer is None:
        return
    made = _tracer.start_span(name, start_time=round(start_s * 1e9))
    Span(made).set(**scope(), **attributes)
    if error:
        _fail(made, error)
    made.end(round(max(start_s, end_s) * 1e9))


@contextlib.contextmanager
def continuing(traceparent: str) -> Iterator[None]:
    """Let the spans inside belong to a stored ``traceparent``; without one, each begins a trace."""
    if _tracer is None or not traceparent:
        yield
        return
    from opentelemetry import context

    token = context.attach(_context_of(traceparent) or context.Context())
    try:
        yield
    finally:
        context.detach(token)


def traceparent() -> str:
    """The present span as others are told of it; empty where there is none."""
    if _tracer is None:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def sent_traceparent(values: Sequence[str]) -> str:
    """What a client sent as ``traceparent``; empty unless it is exactly one that can be read."""
    if _tracer is None or len(values) != 1 or len(values[0]) > _MAX_HEADER or _context_of(values[0]) is None:
        return ""
    return values[0]


class Phases:
    """Things that are done by turns, such as rendering and encoding; each becomes one span."""

    def __init__(self) -> None:
        self._zero_s = time.time() - time.perf_counter()
        self._spans: dict[str, tuple[float, float, float]] = {}  # name -> begin, end (by the clock), busy seconds

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What is inside is of this phase."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, began)

    def add(self, name: str, began: float) -> None:
        """Add a piece of a phase: from ``began``, by ``time.perf_counter``, until now."""
        ended = time.perf_counter()
        first, _, before_s = self._spans.get(name, (began, 0.0, 0.0))
        self._spans[name] = first, ended, before_s + ended - began

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """The items; making each is of this phase."""
        making = iter(items)
        while True:
            with self.phase(name):
                item = next(making, _END)
            if item is _END:
                return
            yield cast(Item, item)

    def part(self, name: str, *, of: str, busy_s: float) -> None:
        """Tell a part of a phase from the rest of it."""
        if of in self._spans:
            began, ended, whole_s = self._spans[of]
            self._spans = {name: (began, ended, busy_s), **self._spans, of: (began, ended, whole_s - busy_s)}

    def record(self) -> None:
        """Make the spans."""
        for name, (began, ended, busy_s) in self._spans.items():
            record(name, self._zero_s + began, self._zero_s + ended, busy_s=round(busy_s, 6))


def _fail(made: otel.Span, error: BaseException | str) -> None:
    from opentelemetry.trace import StatusCode

    known = error.code if isinstance(error, M2daoError) else error if isinstance(error, str) else type(error).__name__
    made.set_attribute(ERROR, known)
    made.set_status(StatusCode.ERROR)


def _context_of(text: str) -> Any:
    """The context that a ``traceparent`` names; None for what is none."""
    if not text:
        return None
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found = TraceContextTextMapPropagator().extract({"traceparent": text})
    return found if get_current_span(found).get_span_context().is_valid else None
