"""How the SDK asks, repeats and waits: its logic is generators, and tests play the network."""

from __future__ import annotations

import email.utils
import json
import time

import pytest

from m2dao_client import problems
from m2dao_client.errors import ApiError, ConnectionFailed, WaitedTooLong, seconds_of
from m2dao_client.models import Fit
from m2dao_client.paths import path_of
from m2dao_client.resources.fits import FitOperations
from m2dao_client.resources.identities import IdentityOperations
from m2dao_client.resources.people import KeyOperations
from m2dao_client.session import Retries, Session
from m2dao_client.steps import Answer, Close, Emit, Open, Pause, Read, Send
from m2dao_client.waiting import Watch, last_of

SESSION = Session("http://api/", "secret", Retries(attempts=3, first_s=1.0, most_s=8.0, longest_retry_after_s=60.0))
FIT = {
    **{"id": "f-1", "status": "running", "stage": "fit", "detail": "", "progress": 0.5, "time_left_s": None},
    **{"metrics": {}, "identity": "anna", "recording_sha256": "0" * 64, "size": 256, "recipe": "m2dao"},
    **{"minutes": 2.0, "priority": "normal", "attempt": 1},
    **{"created_at": "2026-12-01T00:00:00Z", "updated_at": "2026-12-01T00:00:00Z"},
}


def problem(code: str, status: int, **headers: str) -> Answer:
    document = {"type": f"urn:m2dao:problem:{code}", "title": code, "status": status}
    return Answer(status, {"content-type": "application/problem+json", **headers}, json.dumps(document).encode())


def fit(**changes) -> Answer:
    return Answer(200, {"content-type": "application/json"}, json.dumps({**FIT, **changes}).encode())


def play(call, *results):
    """The steps of an operation, given these results of what it sends; then how it ends."""
    results, steps = iter(results), []
    try:
        step = next(call)
        while True:
            steps.append(step)
            if isinstance(step, Send | Open | Read):
                result = next(results)
                step = call.throw(result) if isinstance(result, Exception) else call.send(result)
            else:
                step = next(call)
    except StopIteration as end:
        return steps, end.value
    except Exception as error:
        return steps, error


def of(kind, steps):
    return [step for step in steps if isinstance(step, kind)]


def create_fit():
    order = FitOperations.create._function
    return order(FitOperations(SESSION, None), identity="anna", recording="rec-1")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_safe_request_is_repeated_and_waits_as_long_as_the_api_asks(status):
    call = SESSION.get(Fit, "/v1/fits/f-1")
    steps, found = play(call, problem("service-unavailable", status, **{"retry-after": "7"}), fit())
    assert found.id == "f-1"
    assert [type(step) for step in steps] == [Send, Pause, Send]
    assert 7.0 <= steps[1].seconds <= 8.0


def test_a_create_is_repeated_under_the_key_that_it_made_itself():
    steps, found = play(create_fit(), ConnectionFailed("reset"), problem("maintenance", 503), fit())
    keys = {step.request.headers["Idempotency-Key"] for step in of(Send, steps)}
    assert (found.id, len(of(Send, steps)), len(keys)) == ("f-1", 3, 1)
    assert next(create_fit()).request.headers["Idempotency-Key"] not in keys


@pytest.mark.parametrize(
    "call",
    [
        lambda: IdentityOperations.delete._function(IdentityOperations(SESSION, None), "anna"),
        lambda: KeyOperations.revoke._function(KeyOperations(SESSION, None), "k"),
        lambda: FitOperations.resume._function(FitOperations(SESSION, None), "f-1"),
        lambda: SESSION.send(SESSION.request("PUT", "/v1/identities/anna/champion", json={"version": 1})),
    ],
)
@pytest.mark.parametrize("failure", [ConnectionFailed("reset"), problem("maintenance", 503)])
def test_what_is_neither_safe_nor_keyed_is_sent_once(call, failure):
    steps, error = play(call(), failure)
    assert len(of(Send, steps)) == 1
    assert isinstance(error, ConnectionFailed | problems.Maintenance)


@pytest.mark.parametrize(("code", "status"), [("unknown-fit", 404), ("invalid-request", 422), ("internal-error", 500)])
def test_what_will_not_change_by_waiting_is_not_repeated(code, status):
    steps, error = play(SESSION.get(Fit, "/v1/fits/f-1"), problem(code, status))
    assert len(steps) == 1
    assert error.code == code


def test_attempts_end_and_then_the_last_failure_is_told():
    answers = [problem("maintenance", 503, **{"retry-after": "1"})] * 3
    steps, error = play(SESSION.get(Fit, "/v1/fits/f-1"), *answers)
    assert (len(of(Send, steps)), len(of(Pause, steps))) == (3, 2)
    assert isinstance(error, problems.Maintenance)
    assert error.retry_after_s == 1.0


def test_a_wait_that_would_be_too_long_is_left_to_the_caller():
    steps, error = play(SESSION.get(Fit, "/v1/fits/f-1"), problem("quota-exceeded", 429, **{"retry-after": "3600"}))
    assert len(steps) == 1
    assert isinstance(error, problems.TooManyRequests)
    assert error.retry_after_s == 3600.0


def test_waits_without_advice_grow_and_are_spread():
    waits = [[Retries(first_s=1.0, most_s=8.0, attempts=9).wait_s(n, None) for n in range(1, 9)] for _ in range(20)]
    assert all(0.5 <= row[0] <= 1.0 and 4.0 <= row[3] <= 8.0 and row[7] <= 8.0 for row in waits)
    assert len({row[0] for row in waits}) > 1


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, None), ("12", 12.0), ("soon", None), ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0)]
)
def test_a_retry_after_is_seconds_or_a_date(text, seconds):
    assert seconds_of(text) == seconds


def test_a_date_to_come_is_waited_for():
    assert 500 < seconds_of(email.utils.formatdate(time.time() + 600, usegmt=True)) <= 600


def test_an_answer_that_is_no_problem_document_is_told_by_its_status():
    _, error = play(SESSION.get(Fit, "/v1/fits/f-1"), Answer(404, {"content-type": "text/html"}, b"<html>"))
    assert (type(error), error.status) == (ApiError, 404)


@pytest.mark.parametrize("part", ["", ".", ".."])
def test_a_name_that_would_lead_elsewhere_is_refused(part):
    with pytest.raises(ValueError, match="names nothing"):
        path_of("v1", "fits", part)


def test_a_name_cannot_leave_its_place_in_the_path():
    assert path_of("v1", "fits", "../keys?x=1#y", 7) == "/v1/fits/..%2Fkeys%3Fx%3D1%23y/7"


# -- waiting ------------------------------------------------------------------------------------------------------


def watch(**changes) -> Watch[Fit]:
    plan = {"session": SESSION, "kind": Fit, "path": "/v1/fits/f-1", "ended": lambda found: found.status == "done"}
    return Watch(**{**plan, **changes})


def test_a_state_is_asked_for_with_the_etag_of_the_last_and_told_once():
    first = Answer(200, {"etag": '"1"'}, fit().content)
    steps, _ = play(watch().states(), first, Answer(304, {}), fit(status="done"))
    assert [step.request.headers.get("If-None-Match") for step in of(Send, steps)] == [None, '"1"', '"1"']
    assert [step.item.status for step in of(Emit, steps)] == ["running", "done"]


def event(**changes) -> bytes:
    return f"event: change\nid: 1\ndata: {json.dumps({**FIT, **changes})}\n\n".encode()


def test_events_are_told_as_they_come_however_the_bytes_are_cut():
    stream = b": alive\n\n" + event() + event(status="done")
    pieces = [stream[at : at + 7] for at in range(0, len(stream), 7)]
    steps, _ = play(watch(has_events=True).states(), Answer(200, {}), *pieces, b"")
    assert [step.item.status for step in of(Emit, steps)] == ["running", "done"]
    assert len(of(Send, steps)) == 0


def test_a_stream_that_breaks_off_is_taken_up_again():
    results = [Answer(200, {}), event(), ConnectionFailed("reset"), fit(), Answer(200, {}), event(status="done"), b""]
    steps, _ = play(watch(has_events=True).states(), *results)
    assert of(Emit, steps)[-1].item.status == "done"
    assert (len(of(Open, steps)), len(of(Close, steps))) == (2, 2)


def test_where_there_are_too_many_listeners_states_are_asked_for():
    # A refused stream is tried as often as any safe request, then the state is asked for.
    refused = [problem("too-many-requests", 429), b"", *[problem("too-many-requests", 429), b""] * 2]
    steps, _ = play(watch(has_events=True).states(), *refused, fit(status="done"))
    assert [step.item.status for step in of(Emit, steps)] == ["done"]


def test_a_wait_that_is_over_says_that_it_goes_on():
    _, error = play(watch(timeout_s=-1.0).states(), fit())
    assert isinstance(error, WaitedTooLong)


def test_a_wait_tells_each_state_and_gives_the_last():
    told = []
    _, last = play(last_of(watch().states(), told.append), fit(), fit(progress=0.7), fit(status="done"))
    assert [found.progress for found in told] == [0.5, 0.7, 0.5]
    assert last == told[-1]
