"""One JSON object a log line, and metric labels that cannot grow without bound.

    {"time": "2026-01-31T12:00:00.123Z", "level": "INFO", "component": "ingress", "logger": "serve_apps.api.ingress",
     "message": "render accepted", "tenant": "acme", "job": "r-..."}

What happened goes into the message, which stays the same from line to line; to whom and with what goes into fields,
by ``extra=`` for one line or by ``log_context`` for all lines of a request. Log lines may name tenants and identities.
Metric labels may not: each new value of a label is a new time series for ever.
"""

from __future__ import annotations

import contextlib
import contextvars
import datetime
import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from typing import IO, Any

DEPLOYMENTS = ("ingress", "talker", "dispatcher", "fit", "gate")
OUTCOMES = ("ok", "rejected", "failed", "cancelled", "retried")

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OWN = ("time", "level", "component", "logger", "message", "error", "trace")
# API keys and passwords in URLs: a careless message must not become a leak.
_SECRETS = re.compile(r"m2dao_[A-Za-z0-9_-]{43}|(?<=://)[^/@\s:]*:[^/@\s]+(?=@)")
_MAX_TEXT = 20_000
_context: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("m2dao_log_context", default={})  # noqa: B039


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def __init__(self, component: str):
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "component": self._component,
            "logger": record.name,
            "message": _clean(record.getMessage()),
        }
        fields = {**_context.get(), **{k: v for k, v in vars(record).items() if k not in _STANDARD}}
        line |= {name: _plain(value) for name, value in fields.items() if name not in _OWN}
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = getattr(error, "code", type(error).__name__)
            line["trace"] = _clean("".join(traceback.format_exception(error)))
        return json.dumps(line, ensure_ascii=False)


def configure_logging(component: str, *, level: str = "INFO", stream: IO[str] | None = None) -> None:
    """Send the log of this process, as JSON lines, to ``stream`` (standard error). Safe to call again.

    Args:
        component: what this process is, for example "ingress".
        level: the least severe level that is written.
        stream: where to.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(component))
    handler.set_name("m2dao")
    root = logging.getLogger()
    for old in [h for h in root.handlers if h.get_name() == "m2dao"]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)


@contextlib.contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Add fields to every line that is logged inside, in this thread or asyncio task."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def metric_labels(deployment: str, outcome: str) -> dict[str, str]:
    """The labels of a metric; there are no others.

    Raises:
        ValueError: a value is not one of ``DEPLOYMENTS`` and ``OUTCOMES``. Add it there when it is a new fixed one;
            never pass names of tenants, identities or jobs.
    """
    if deployment not in DEPLOYMENTS or outcome not in OUTCOMES:
        raise ValueError(f"metric labels are of {DEPLOYMENTS} and {OUTCOMES}, not {deployment!r}, {outcome!r}")
    return {"deployment": deployment, "outcome": outcome}


def _plain(value: Any) -> Any:
    """What JSON can hold: numbers stay numbers, the rest becomes text."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)  # JSON has no infinity and no NaN
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return _clean(str(value))


def _clean(text: str) -> str:
    text = _SECRETS.sub("[secret]", text)
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + " [cut]"
