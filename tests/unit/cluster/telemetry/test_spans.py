"""Traces cost nothing until somebody wants them, and then go where they are wanted and nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cluster.settings import Settings
from cluster.telemetry.scope import carried, working_for
from cluster.telemetry.traces import spans
from tests import house
from tests.support.telemetry.spans import collecting, own_spans

# What a process of the platform does, in one of its own: exporters start threads, which no other test should have.
PROGRAM = """
import sys, threading
from cluster.settings import Settings
from cluster.telemetry.traces import spans
from cluster.telemetry.traces.export import flush_traces, start_traces
start_traces("talker", Settings.from_env())
num_threads = threading.active_count()
start_traces("talker", Settings.from_env())
assert threading.active_count() == num_threads, "started again, it starts nothing more"
with spans.span("work", attempt=1):
    told = spans.traceparent()
spans.record("wait", 1.0, 2.0)
flush_traces()
print(told or "nothing", threading.active_count(), *sorted(m for m in sys.modules if m.startswith("opentelemetry"))[:1])
"""


def run(tmp_path, **environment):
    env = {"M2DAO_HOME": str(tmp_path), "PYTHONPATH": str(house.ROOT), **environment}
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


@pytest.mark.parametrize("environment", [{}, {"OTEL_SDK_DISABLED": "true", "M2DAO_TRACES_FILES": "true"}])
def test_by_default_no_library_is_loaded_no_thread_runs_and_no_file_is_written(tmp_path, environment):
    assert run(tmp_path, **environment) == ["nothing", "1"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "names",
    [
        {"M2DAO_TRACES_ENDPOINT": "{url}"},
        {"M2DAO_TRACES_ENDPOINT": "{url}/v1/traces"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "{url}"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "{url}/v1/traces", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"},
    ],
)
def test_a_collector_is_named_by_our_setting_or_by_the_standard_variables(tmp_path, names):
    with collecting() as collector:
        told, *_ = run(tmp_path, **{name: value.format(url=collector.url) for name, value in names.items()})
        found = {span.name: span for span in collector.having("work", "wait")}
    assert collector.paths == {"/v1/traces"}
    assert told.split("-")[1] == found["work"].trace
    assert (found["work"].component, found["work"]["attempt"]) == ("talker", 1)
    assert (found["wait"].start_s, found["wait"].end_s) == (1.0, 2.0)


def test_spans_are_written_to_a_file_that_nobody_else_reads(tmp_path):
    told, *_ = run(tmp_path, M2DAO_TRACES_FILES="true")
    (path,) = (tmp_path / "traces").iterdir()
    assert (tmp_path / "traces").stat().st_mode & 0o77 == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    made = [span for line in lines for group in line["resourceSpans"][0]["scopeSpans"] for span in group["spans"]]
    assert {span["name"] for span in made} == {"work", "wait"}
    assert told.split("-")[1:3] in [[span["traceId"], span["spanId"]] for span in made]


def test_a_collector_that_is_away_costs_the_work_nothing_but_the_spans(tmp_path):
    told, *_ = run(tmp_path, M2DAO_TRACES_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    assert told != "nothing"


def test_the_endpoint_must_be_an_address():
    with pytest.raises(Exception, match="M2DAO_TRACES_ENDPOINT"):
        Settings.from_env({"M2DAO_TRACES_ENDPOINT": "collector"})


def test_work_that_is_handed_to_a_thread_stays_in_its_span():
    with own_spans() as seen:
        with spans.span("outer"):
            call = carried(spans.traceparent)
            told = spans.traceparent()
        assert call() == told
        (outer,) = seen.having("outer")
    assert told.split("-")[1:3] == [outer.trace, outer.id]


def test_what_a_job_stored_is_continued_and_what_it_did_not_begins_a_trace():
    with own_spans() as seen:
        with spans.span("request"):
            stored = spans.traceparent()
        for parent in (stored, ""):
            with spans.continuing(parent), spans.span("attempt"):
                pass
        request, first, second = seen.having("request", "attempt", "attempt")
    assert (first.trace, first.parent) == (request.trace, request.id)
    assert second.trace != request.trace
    assert second.parent == ""


def test_an_error_is_told_by_its_code_and_raised_on():
    with own_spans() as seen:
        with pytest.raises(ValueError, match="secret"), spans.span("work"):
            raise ValueError("secret")
        (span,) = seen.having("work")
    assert (span.failed, span.attributes) == (True, {"error.type": "ValueError"})


def test_phases_that_take_turns_are_one_span_each_with_their_share():
    with own_spans() as seen, working_for(job="r-1"):
        phases = spans.Phases()
        for _ in phases.each("render", range(3)):
            with phases.phase("encode"):
                pass
        phases.part("speech", of="render", busy_s=0.0)
        phases.record()
        found = {span.name: span for span in seen.having("speech", "render", "encode")}
    assert {span["job"] for span in found.values()} == {"r-1"}
    assert found["render"].start_s <= found["encode"].start_s <= found["encode"].end_s <= found["render"].end_s
    assert all(0 <= span["busy_s"] <= span.end_s - span.start_s + 0.001 for span in found.values())
