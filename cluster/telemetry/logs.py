"""One JSON object a log line.

    {"time": "2026-01-31T12:00:00.123Z", "level": "INFO", "component": "ingress", "logger": "serve_apps.api.ingress",
     "message": "render accepted", "tenant": "acme", "job": "r-..."}

The message says what happened and stays the same from line to line. Whom it concerns goes into fields: those of the
scope (``cluster/telemetry/scope.py``) by themselves, others by ``extra=``.
Log lines may name tenants and identities. They never hold secrets (``m2dao/secrets.py``). That is also so for lines
of libraries that go to files of their own, such as those of Ray Serve.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
import traceback
from typing import IO, Any

from cluster.telemetry.scope import scope
from m2dao.secrets import scrub

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OWN = ("time", "level", "component", "logger", "message")
_MAX_TEXT = 20_000


class _JsonFormatter(logging.Formatter):
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
        told = {**scope(), **vars(record)}  # the handler runs where the line is written
        line |= {k: _plain(v) for k, v in told.items() if k not in _STANDARD and k not in _OWN}
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
    handler.setFormatter(_JsonFormatter(component))
    handler.set_name("m2dao")
    root = logging.getLogger()
    for old in [h for h in root.handlers if h.get_name() == "m2dao"]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.setLogRecordFactory(_ScrubbedRecord)


class _ScrubbedRecord(logging.LogRecord):
    """A record without secrets, whoever writes it to wherever."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        if self.exc_info and self.exc_info[1] is not None:
            self.exc_text = scrub("".join(traceback.format_exception(self.exc_info[1])).rstrip("\n"))

    def getMessage(self) -> str:
        return scrub(super().getMessage())


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
    text = scrub(text)
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + " [cut]"
