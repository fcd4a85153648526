"""Reads spans that processes wrote to files as lines of OTLP in JSON, and finds the trace of a job."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.telemetry.traces.spans import ERROR, PREFIX
from m2dao.errors import InputError, NotFound

_OF_A_JOB = ("attempt", "queue", "dispatch")  # a repeated request tells of the job too, from a trace of its own


@dataclass(frozen=True, kw_only=True)
class WrittenSpan:
    """A span as it was written."""

    name: str
    component: str
    trace_id: str
    span_id: str
    parent_id: str  # empty where it begins a trace
    start_s: float  # Unix time
    end_s: float
    attributes: Mapping[str, str | float | bool]

    @property
    def error(self) -> str:
        """The code of the error that ended it; empty when it went well."""
        return str(self.attributes.get(ERROR, ""))


def read_spans(files: Iterable[Path]) -> Iterator[WrittenSpan]:
    """All spans of these files. What a process had begun to write when it died is left out.

    Raises:
        InputError: a line is JSON and tells of something else.
    """
    for path in files:
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            try:
                message = json.loads(line)
            except ValueError:
                continue
            try:
                found = list(_spans_of(message))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                got = f"{type(error).__name__}: {error}"
                raise InputError(f"{path}, line {number}", "spans of OTLP in JSON", got) from error
            yield from found


def _spans_of(message: Mapping[str, Any]) -> Iterator[WrittenSpan]:
    for resource in message.get("resourceSpans", []):
        component = _values(resource.get("resource", {})).get("service.name", "")
        for group in resource.get("scopeSpans", []):
            yield from (_span(made, str(component)) for made in group.get("spans", []))


def trace_of(job: str, spans: Iterable[WrittenSpan]) -> list[WrittenSpan]:
    """The spans of the trace that a job belongs to, in the order of their begin.

    Raises:
        NotFound: no span tells of the job.
    """
    found = list(spans)
    of_job = [span for span in found if span.attributes.get(f"{PREFIX}job") == job]
    traces = {span.trace_id for span in of_job if span.name in _OF_A_JOB}
    if not traces:
        raise NotFound(f"trace of {job}", "spans in the files", "none", "was M2DAO_TRACES_FILES set when it ran?")
    return sorted((span for span in found if span.trace_id in traces), key=lambda span: span.start_s)


def _span(made: Mapping[str, Any], component: str) -> WrittenSpan:
    return WrittenSpan(
        name=made["name"],
        component=component,
        trace_id=made["traceId"],
        span_id=made["spanId"],
        parent_id=made.get("parentSpanId", ""),
        start_s=int(made["startTimeUnixNano"]) / 1e9,
        end_s=int(made["endTimeUnixNano"]) / 1e9,
        attributes=_values(made),
    )


def _values(thing: Mapping[str, Any]) -> dict[str, str | float | bool]:
    """Attributes as plain values: in OTLP each says its type, and whole numbers are text."""
    plain: dict[str, str | float | bool] = {}
    for each in thing.get("attributes", []):
        for kind, value in each.get("value", {}).items():
            plain[each["key"]] = int(value) if kind == "intValue" else value
    return plain
