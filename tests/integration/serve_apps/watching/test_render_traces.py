"""A render's trace: from the request through the queue to the stored video, whoever works on it."""

from __future__ import annotations

import time

import httpx
import pytest

from cluster.state.problems import Problem
from m2dao.errors import MediaError, StorageUnavailable
from tests.support.serve import WAIT_S, do, make_worker, renderers, speech, take
from tests.support.telemetry.spans import own_spans

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PROPER = f"00-{TRACE}-{PARENT}-01"
ACCEPTING = ["accept", "decode", "store"]
RENDERING = ["fetch", "identity", "speech", "render", "encode", "store", "commit"]
KNOWN = {"request", "tenant", "job", "audio_seconds", "attempt", "worker", "outcome", "ref", "busy_s"}


@pytest.fixture
def seen():
    with own_spans() as seen:
        yield seen


def named(spans, name):
    return [span for span in spans if span.name == name]


def below(spans, parent):
    return sorted(span.name for span in spans if span.parent == parent.id)


def request_of(spans):
    (found,) = named(spans, "POST /v1/renders")
    return found


def test_a_render_is_one_trace_from_the_request_to_the_commit(api, own, tmp_path, seen):
    worker, _ = make_worker(api.services, tmp_path / "disk")
    render = own.ask(0.4, headers={"X-Request-Id": "q-1"}).json()
    assert do(worker, take(api.services, own.tenant)) == "done"
    spans = seen.having("POST /v1/renders", "attempt")
    request, (attempt,) = request_of(spans), named(spans, "attempt")
    assert {span.trace for span in spans} == {request.trace}
    assert request.parent == ""
    assert below(spans, request) == sorted([*ACCEPTING, "attempt"])
    assert below(spans, attempt) == sorted(RENDERING)
    assert (attempt["attempt"], attempt["outcome"]) == (1, "done")
    assert request.attributes["http.response.status_code"] == 202
    assert {(span["request"], span["tenant"], span["job"]) for span in (request, attempt)} == {
        ("q-1", str(own.tenant), render["id"])
    }
    for span in spans:
        assert span.start_s <= span.end_s
    busy = {span.name: span["busy_s"] for span in spans if "m2dao.busy_s" in span.attributes}
    assert set(busy) == {"speech", "render", "encode"}
    assert all(seconds > 0 for seconds in busy.values())


def test_the_dispatcher_adds_the_wait_and_the_way(api, own, tmp_path, seen):
    with (
        api.platform.state.events.subscribe(jobs=(own.tenant, "render")) as changes,
        renderers(api.platform.settings, tmp_path / "disk"),
    ):
        answer, deadline = own.ask(0.4), time.monotonic() + WAIT_S
        while own.client.get(answer.headers["location"]).json()["status"] != "done":
            assert time.monotonic() < deadline
            changes.get(timeout_s=1.0)
    spans = seen.having("POST /v1/renders", "attempt")
    request = request_of(spans)
    assert below(spans, request) == sorted([*ACCEPTING, "queue", "dispatch", "attempt"])
    assert named(spans, "dispatch")[0]["attempt"] == 1


def test_a_client_that_sends_its_trace_finds_the_render_in_it(api, own, seen):
    own.ask(0.4, headers={"traceparent": PROPER})
    request = request_of(seen.having("POST /v1/renders"))
    assert (request.trace, request.parent) == (TRACE, PARENT)
    stored = take(api.services, own.tenant).job.origin.traceparent
    assert stored.split("-")[1:3] == [TRACE, request.id]


@pytest.mark.parametrize(
    "sent",
    [
        [PROPER + "-more"],
        [PROPER * 400],
        [f"00-{'0' * 32}-{PARENT}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"ff-{TRACE}-{PARENT}-01"],
        [PROPER.upper()],
        ["00-" + "é" * 32 + f"-{PARENT}-01"],
        ["'; DROP TABLE"],
        [""],
        [PROPER, PROPER],
    ],
)
def test_a_header_that_is_no_trace_is_ignored(own, sent, seen):
    request = own.client.build_request("GET", "/v1/renders")
    more = [("traceparent", text.encode("latin-1")) for text in sent]
    request.headers = httpx.Headers([*request.headers.raw, *((name.encode(), value) for name, value in more)])
    assert own.client.send(request).status_code == 200
    (span,) = seen.having("GET /v1/renders")
    assert span.parent == ""
    assert TRACE not in span.trace


def test_names_of_spans_stay_few_whatever_is_asked_for(own, seen):
    for path in ("/v1/renders/r-1", "/v1/renders/r-2?x=secret", "/none/1", "/none/2", "/healthz", "/readyz"):
        own.client.get(path)
    own.client.request("PURGE", "/v1/renders")
    render, purge = "GET /v1/renders/{render_id}", "_OTHER /v1/renders"
    spans = seen.having(render, render, "GET", "GET", purge)
    assert {span.name for span in spans} == {render, "GET", purge}
    assert "secret" not in str(spans)


def test_a_second_attempt_is_another_span_of_the_same_trace(api, own, tmp_path, seen):
    def away(folder):
        raise MediaError("identity", "an identity", "rubbish")

    own.ask(0.4)
    first = take(api.services, own.tenant)
    worker_died = Problem(code="worker-died")
    api.services.state.jobs.fail(first, worker_died, retry=True)
    broken, _ = make_worker(api.services, tmp_path / "a", load=away)
    assert do(broken, take(api.services, own.tenant)) == "failed"
    spans = seen.having("POST /v1/renders", "attempt")
    (attempt,) = named(spans, "attempt")
    assert (attempt["attempt"], attempt["outcome"], attempt.failed) == (2, "failed", True)
    assert attempt.trace == request_of(spans).trace
    assert attempt.parent == request_of(spans).id
    assert attempt.attributes["error.type"] == MediaError.code


def test_a_span_holds_numbers_names_and_codes_and_no_message_of_an_error(api, own, tmp_path, seen):
    def away(folder):
        raise StorageUnavailable("the thing", "this", "a word that nobody may read")

    own.ask(0.4)
    worker, _ = make_worker(api.services, tmp_path / "disk", load=away)
    assert do(worker, take(api.services, own.tenant)).startswith("put off")
    own.ask(audio=b"no sound")
    spans = seen.having("POST /v1/renders", "POST /v1/renders", "attempt")
    assert "nobody may read" not in str(spans)
    ours = {name.removeprefix("m2dao.") for span in spans for name in span.attributes if name.startswith("m2dao.")}
    others = {name for span in spans for name in span.attributes if not name.startswith("m2dao.")}
    assert ours <= KNOWN
    assert others <= {"http.request.method", "http.route", "http.response.status_code", "error.type"}


def test_a_repeated_request_leaves_the_render_in_the_trace_of_the_first(api, own, seen):
    audio = speech(0.4)
    for _ in range(2):
        own.ask(audio=audio, headers={"Idempotency-Key": "k"})
    first, second = named(seen.having("POST /v1/renders", "POST /v1/renders"), "POST /v1/renders")
    assert first.trace != second.trace
    assert first["job"] == second["job"]
    assert first.trace in take(api.services, own.tenant).job.origin.traceparent


def test_without_tracing_a_job_holds_no_trace(api, own):
    own.ask(0.4, headers={"traceparent": PROPER})
    assert take(api.services, own.tenant).job.origin.traceparent == ""
