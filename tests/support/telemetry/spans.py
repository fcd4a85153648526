"""Spans as a test sees them: those of this process, and those that a collector was sent."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from cluster.telemetry.traces.spans import use_tracer


@dataclass(frozen=True)
class Seen:
    """A span."""

    name: str
    trace: str
    id: str
    parent: str  # empty for none
    start_s: float
    end_s: float
    attributes: dict[str, Any] = field(default_factory=dict)
    component: str = ""
    failed: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.attributes[f"m2dao.{name}"]


class Collector:
    """A receiver of OTLP over HTTP, as a collector is one."""

    def __init__(self, url: str = "") -> None:
        self.url = url
        self._spans: list[Seen] = []
        self._arrived = threading.Condition()
        self.paths: set[str] = set()

    def wait(self, condition: Callable[[list[Seen]], Any], *, within_s: float = 120.0) -> Any:
        """What the condition says of all spans, once it is true."""
        with self._arrived:
            found = self._arrived.wait_for(lambda: condition(list(self._spans)), within_s)
        assert found, f"not among {sorted({span.name for span in self._spans})}"
        return found

    def having(self, *names: str) -> list[Seen]:
        """All spans in the order of their begin, once each of these names is there as often as here.

        A request's span ends a little after its answer is there.
        """
        wanted = Counter(names)
        found = self.wait(lambda spans: wanted <= Counter(span.name for span in spans) and spans)
        return sorted(found, key=lambda span: span.start_s)

    def take(self, path: str, request: ExportTraceServiceRequest) -> None:
        with self._arrived:
            self.paths.add(path)
            for resource in request.resource_spans:
                about = {each.key: each.value.string_value for each in resource.resource.attributes}
                for group in resource.scope_spans:
                    self._spans += [_seen(made, about.get("service.name", "")) for made in group.spans]
            self._arrived.notify_all()


def _seen(made: Any, component: str) -> Seen:
    return Seen(
        name=made.name,
        trace=made.trace_id.hex(),
        id=made.span_id.hex(),
        parent=made.parent_span_id.hex(),
        start_s=made.start_time_unix_nano / 1e9,
        end_s=made.end_time_unix_nano / 1e9,
        attributes={each.key: getattr(each.value, each.value.WhichOneof("value")) for each in made.attributes},
        component=component,
        failed=made.status.code == 2,
    )


@contextlib.contextmanager
def own_spans() -> Iterator[Collector]:
    """Let this process make spans; yields where they are."""
    collector, provider = Collector(), TracerProvider()

    class Memory(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            collector.take("", encode_spans(spans))
            return SpanExportResult.SUCCESS

    provider.add_span_processor(SimpleSpanProcessor(Memory()))
    use_tracer(provider.get_tracer("m2dao"))
    try:
        yield collector
    finally:
        use_tracer(None)
        provider.shutdown()


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.take(self.path, ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
