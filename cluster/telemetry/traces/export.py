"""Where spans go: to a collector (OTLP over HTTP), and into files of this machine. Nowhere by default.

A collector is named by ``M2DAO_TRACES_ENDPOINT`` or by OpenTelemetry's own variables (``OTEL_EXPORTER_OTLP_ENDPOINT``,
``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``), whose headers, certificates, time-outs and ``OTEL_TRACES_SAMPLER`` count too.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging.handlers
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.settings import Settings
from cluster.telemetry.traces.spans import is_tracing, use_tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

FOLDER = "traces"  # in M2DAO_HOME
_STANDARD = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PATH = "/v1/traces"
_IDS = ("traceId", "spanId", "parentSpanId")
_FILE_BYTES = 16_000_000  # of one process; as much again is kept of what was before
_FILES_DAYS = 7  # files of processes that have ended are kept
_FLUSH_MS = 5000
_flush: Callable[[int], bool] | None = None
_started: tuple[object, ...] = ()


def start_traces(component: str, settings: Settings) -> None:
    """Let this process make spans if the settings want any; else nothing is loaded. Safe to call again.

    Args:
        component: what this process is, as in ``configure_logging``.
        settings: say where spans go.
    """
    global _started
    wanted = (component, settings.traces, settings.home, *map(os.environ.get, _STANDARD))
    if _is_wanted(settings) and not (is_tracing() and wanted == _started):
        _started = wanted
        _export_by(component, *_exporters(component, settings))


def _export_by(component: str, *exporters: SpanExporter) -> None:
    """Let this process make spans, and send them by these exporters."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": component}
    instance = {"service.instance.id": f"{socket.gethostname()}:{os.getpid()}", "service.namespace": "m2dao"}
    # Not the global one, which Ray and other libraries would use too.
    provider = TracerProvider(resource=Resource.create({**named, **instance}))
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    global _flush
    _flush = provider.force_flush
    use_tracer(provider.get_tracer("m2dao"))


def flush_traces() -> None:
    """Send what waits: this process may be ended soon. Waits for some seconds at most."""
    if _flush is not None:
        _flush(_FLUSH_MS)


def _is_wanted(settings: Settings) -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return bool(settings.traces.endpoint or settings.traces.files or any(map(os.environ.get, _STANDARD)))


def _exporters(component: str, settings: Settings) -> list[SpanExporter]:
    found: list[SpanExporter] = []
    if settings.traces.endpoint or any(map(os.environ.get, _STANDARD)):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        base = (settings.traces.endpoint or "").rstrip("/")
        found.append(OTLPSpanExporter(endpoint=base.removesuffix(_PATH) + _PATH if base else None))
    if settings.traces.files:
        found.append(_file_exporter(settings.home / FOLDER, component))
    return found


def _file_exporter(folder: Path, component: str) -> SpanExporter:
    """Writes lines of OTLP in JSON, as a collector's file exporter does."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    oldest = time.time() - _FILES_DAYS * 24 * 3600
    for path in folder.glob("*.jsonl*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
    path = folder / f"{component}-{socket.gethostname()}-{os.getpid()}.jsonl"
    lines = logging.handlers.RotatingFileHandler(path, maxBytes=_FILE_BYTES, backupCount=1, encoding="utf-8")

    class _Files(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            lines.emit(logging.makeLogRecord({"msg": _as_json_line(spans)}))
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            lines.close()

    return _Files()


def _as_json_line(spans: Sequence[ReadableSpan]) -> str:
    """Spans as one line of OTLP in JSON."""
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    message = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    for resource in message["resourceSpans"]:
        for group in resource["scopeSpans"]:
            for made in group["spans"]:  # in OTLP ids are hexadecimal, unlike all other bytes of protobuf's JSON
                made.update({name: base64.b64decode(made[name]).hex() for name in _IDS if name in made})
    return json.dumps(message)
