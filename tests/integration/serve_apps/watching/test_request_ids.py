"""A request has a name: in its answer, in its job, and on every log line from the API to the replica."""

from __future__ import annotations

import re

import httpx
import pytest

from m2dao.errors import MediaError
from tests.support.serve import assert_problem, do, make_worker, speech, take
from tests.support.telemetry.log_lines import log_lines

NEW = re.compile(r"[0-9a-f]{32}")


def test_a_clients_own_name_for_a_request_is_returned(api, own):
    named = {"X-Request-Id": "client-7.a_b"}
    assert own.client.get("/v1/renders", headers=named).headers.get_list("x-request-id") == ["client-7.a_b"]
    refused = api.client.get("/v1/renders", headers=named)
    assert assert_problem(refused, 401, "missing-credentials")["request_id"] == "client-7.a_b"
    assert refused.headers.get_list("x-request-id") == ["client-7.a_b"]


@pytest.mark.parametrize("sent", [[], ["x" * 129], ["a b"], [""], ["-x"], ["a", "b"], ['"><script>']])
def test_a_request_without_a_proper_name_gets_a_new_one(own, sent):
    request = own.client.build_request("GET", "/v1/renders/r-none")
    request.headers = httpx.Headers([*request.headers.multi_items(), *(("X-Request-Id", text) for text in sent)])
    answers = [own.client.send(request) for _ in range(2)]
    names = [answer.headers.get_list("x-request-id") for answer in answers]
    assert all(len(each) == 1 and NEW.fullmatch(each[0]) for each in names)
    assert names[0] != names[1]
    assert [assert_problem(answer, 404, "unknown-render")["request_id"] for answer in answers] == [n for [n] in names]


def test_every_line_written_for_a_render_tells_its_request_tenant_and_job(api, own, tmp_path):
    worker, _ = make_worker(api.services, tmp_path / "disk")
    with log_lines() as lines:
        render = own.ask(0.4, headers={"X-Request-Id": "q-1"}).json()
        assert do(worker, take(api.services, own.tenant)) == "done"
    told = [
        line for line in lines() if line["logger"].startswith("serve_apps") and line.get("tenant") == str(own.tenant)
    ]
    assert [line["message"] for line in told] == ["render accepted", "render finished"]
    assert {(line["request"], line["job"]) for line in told} == {("q-1", render["id"])}


def test_the_lines_of_a_failed_render_tell_the_request_that_asked_for_it(api, own, tmp_path):
    def broken(folder):
        raise MediaError("identity", "an identity", "rubbish")

    worker, _ = make_worker(api.services, tmp_path / "disk", load=broken)
    own.ask(0.4, headers={"X-Request-Id": "q-2"})
    with log_lines("talker") as lines:
        assert do(worker, take(api.services, own.tenant)) == "failed"
    assert {(line["message"], line["request"], line["tenant"]) for line in lines()} == {
        ("render failed", "q-2", str(own.tenant))
    }


def test_a_repeated_request_under_another_name_is_the_same_render(api, own):
    audio = speech(0.4)
    asked = [own.ask(audio=audio, headers={"Idempotency-Key": "k", "X-Request-Id": name}).json() for name in "ab"]
    assert asked[0]["id"] == asked[1]["id"]
    assert take(api.services, own.tenant).job.origin.request_id == "a"
