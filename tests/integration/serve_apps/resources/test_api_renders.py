"""Renders found again, waited for, followed, and asked for anew after a failure."""

from __future__ import annotations

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image

from cluster.ids import RenderId
from cluster.state.problems import Problem
from serve_apps.tickets import render_prefix
from tests.support.serve import Api, Customer, assert_problem, speech

LOOKS = 6000


def claimed(api: Api, own: Customer, name: str):
    claim = api.services.state.jobs.claim(
        "render", worker="t", lease_s=60, tenant=own.tenant, job_id=RenderId.parse(name)
    )
    assert claim is not None
    return claim


def fail(api: Api, own: Customer, name: str) -> None:
    api.services.state.jobs.fail(claimed(api, own, name), Problem(code="internal-error"))


def names_of(own: Customer, **query: object) -> list[str]:
    """The ids of all pages."""
    found, after = [], ""
    while after is not None:
        page = own.client.get("/v1/renders", params={**query, "after": after}).json()
        found += [render["id"] for render in page["renders"]]
        after = page["next"]
    return found


# -- lists --------------------------------------------------------------------------------------------------------


def test_renders_are_found_by_state_person_version_and_time(api, own, folder):
    api.register(own.tenant, folder, name="ben")
    anna, ben, failed = (own.ask(identity=name).json() for name in ("anna", "ben", "anna"))
    fail(api, own, failed["id"])
    every = [failed["id"], ben["id"], anna["id"]]
    assert names_of(own) == names_of(own, limit=1) == names_of(own, limit=2) == every
    assert names_of(own, status="failed") == names_of(own, status="failed", limit=1) == [failed["id"]]
    assert names_of(own, status="queued") == [ben["id"], anna["id"]]
    assert names_of(own, identity="ben") == [ben["id"]]
    assert names_of(own, version=1) == every
    assert names_of(own, version=2) == names_of(own, identity="carl") == []
    assert names_of(own, since=ben["created_at"]) == every[:2]
    assert names_of(own, until=ben["created_at"], limit=1) == every[2:]
    assert names_of(own, since=ben["created_at"], until=failed["created_at"], limit=1) == [ben["id"]]


def test_a_claimed_render_that_nobody_has_begun_is_listed_as_queued(api, own):
    name = own.ask().json()["id"]
    api.services.state.jobs.claim("render", worker="d", lease_s=60, tenant=own.tenant, begun=False)
    assert names_of(own, status="queued") == [name]
    assert names_of(own, status="running") == []


@pytest.mark.parametrize(
    "query",
    [
        *("status=begun", "identity=A", "version=0", "version=x", "since=yesterday", "since=2026-01-01T00:00:00"),
        *("since=0", "until=2026-13-01T00:00:00Z", "after=x", "offset=1&status=done", "offset=1&after=5", "state=done"),
    ],
)
def test_a_wrong_question_about_renders_is_refused(anna, query):
    assert_problem(anna.client.get(f"/v1/renders?{query}"), 422, "invalid-request")


def test_times_long_ago_and_far_ahead_are_times(anna):
    past, ahead = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
    assert anna.client.get("/v1/renders", params={"until": past}).json()["renders"] == []
    assert anna.client.get("/v1/renders", params={"since": ahead}).json()["renders"] == []
    later = datetime.now(UTC) + timedelta(hours=1)
    assert anna.client.get("/v1/renders", params={"since": later.isoformat()}).json()["renders"] == []


# -- waiting ------------------------------------------------------------------------------------------------------


def ended_meanwhile(api: Api, own: Customer) -> None:
    """End the next render of a tenant, as soon as there is one."""
    for _ in range(LOOKS):
        jobs = api.services.state.jobs
        claim = jobs.claim("render", worker="t", lease_s=60, tenant=own.tenant)
        if claim is not None:
            jobs.fail(claim, Problem(code="internal-error"))
            return
        threading.Event().wait(0.02)
    raise AssertionError("no render came")


def test_one_call_answers_with_the_end_of_its_render(api, own):
    with ThreadPoolExecutor(1) as threads:
        ending = threads.submit(ended_meanwhile, api, own)
        answer = own.client.post(
            "/v1/renders?wait=60", files={"audio": ("a.wav", speech(0.5), "audio/wav")}, data={"identity": "anna"}
        )
        ending.result()
    assert answer.status_code == 200
    assert answer.json()["status"] == "failed"
    assert answer.headers["location"] == f"/v1/renders/{answer.json()['id']}"


def test_a_call_that_waited_in_vain_answers_with_the_open_render(own):
    answer = own.client.post(
        "/v1/renders?wait=1", files={"audio": ("a.wav", speech(0.5), "audio/wav")}, data={"identity": "anna"}
    )
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


def test_asking_for_a_render_may_wait_for_its_end(api, own):
    name = own.ask().json()["id"]
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(own.client.get, f"/v1/renders/{name}?wait=60")
        fail(api, own, name)
        assert asking.result().json()["status"] == "failed"


def test_an_open_render_says_when_to_ask_again(api, own):
    name = own.ask().json()["id"]
    assert int(own.client.get(f"/v1/renders/{name}").headers["retry-after"]) >= 1
    fail(api, own, name)
    assert "retry-after" not in own.client.get(f"/v1/renders/{name}").headers


@pytest.mark.parametrize("wait", ["-1", "61", "x"])
def test_a_wait_that_is_none_or_too_long_is_refused(own, wait):
    name = own.ask().json()["id"]
    assert_problem(own.client.get(f"/v1/renders/{name}?wait={wait}"), 422, "invalid-request")


def test_changes_of_a_render_are_streamed_until_it_ends(api, own):
    name, seen = own.ask().json()["id"], []
    with own.client.stream("GET", f"/v1/renders/{name}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line.removeprefix("data: "))["status"])
                if len(seen) == 1:
                    fail(api, own, name)
    assert (seen[0], seen[-1]) == ("queued", "failed")
    assert own.client.head(f"/v1/renders/{name}/events").status_code == 200


# -- again --------------------------------------------------------------------------------------------------------


def test_a_failed_render_is_made_anew_once_of_the_same_sound(api, own):
    old = own.ask(0.5).json()
    fail(api, own, old["id"])
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: own.client.post(f"/v1/renders/{old['id']}/retry"), range(8)))
    assert {answer.status_code for answer in answers} == {202}
    (new_id,) = {answer.json()["id"] for answer in answers}
    assert new_id != old["id"]
    assert {answer.headers["location"] for answer in answers} == {f"/v1/renders/{new_id}"}
    new = own.client.get(f"/v1/renders/{new_id}").json()
    assert [new[name] for name in ("identity", "version", "audio_seconds")] == ["anna", 1, 0.5]
    jobs = api.services.state.jobs
    kept = jobs.kept_files(own.tenant, RenderId.parse(old["id"]))
    assert dict(jobs.files(claimed(api, own, new_id))) == dict(kept)
    assert kept
    assert names_of(own) == [new_id, old["id"]]


def test_a_failed_render_whose_files_are_in_the_store_is_made_anew_from_copies(api, own):
    picture = io.BytesIO()
    Image.new("RGB", (64, 48)).save(picture, "PNG")
    background = ("b.png", picture.getvalue(), "image/png")
    answer = own.client.post(
        "/v1/renders",
        files={
            "audio": ("a.wav", speech(0.5), "audio/wav"),
            "background_image": background,
        },
        data={"identity": "anna"},
    )
    old = answer.json()["id"]
    fail(api, own, old)
    new = own.client.post(f"/v1/renders/{old}/retry").json()["id"]
    before, after = (render_prefix(own.tenant, RenderId.parse(name)) for name in (old, new))
    store = api.services.store
    names = {info.key.removeprefix(before) for info in store.list(before)}
    assert {info.key.removeprefix(after) for info in store.list(after)} == names >= {"speech.wav", "background.png"}
    request = api.services.state.jobs.get(own.tenant, RenderId.parse(new)).request
    assert request["audio_key"] == after + "speech.wav"
    assert request["background"]["key"] == after + "background.png"


def test_only_what_failed_is_made_anew(api, own):
    name = own.ask(0.5).json()["id"]
    assert_problem(own.client.post(f"/v1/renders/{name}/retry"), 409, "not-failed")
    own.client.delete(f"/v1/renders/{name}")
    assert_problem(own.client.post(f"/v1/renders/{name}/retry"), 409, "not-failed")


def test_a_failed_render_whose_sound_is_gone_says_so(api, own):
    name = own.ask(0.5).json()["id"]
    fail(api, own, name)
    api.services.state._link.call("DEL", f"{own.tenant}:files:{name}")
    assert_problem(own.client.post(f"/v1/renders/{name}/retry"), 409, "sound-gone")


def test_the_sounds_of_the_last_failures_are_kept_and_for_an_hour(api, own):
    names = []
    for _ in range(18):
        names.append(own.ask(0.2).json()["id"])
        fail(api, own, names[-1])
    link = api.services.state._link
    there = [link.call("EXISTS", f"{own.tenant}:files:{name}") for name in names]
    assert there == [0] * 2 + [1] * 16
    assert 0 < link.call("TTL", f"{own.tenant}:files:{names[-1]}") <= 3600


def test_a_retry_counts_among_the_open_renders(api, own):
    name = own.ask(0.2).json()["id"]
    fail(api, own, name)
    for _ in range(4):
        assert own.ask(0.2).status_code == 202
    answer = own.client.post(f"/v1/renders/{name}/retry")
    assert_problem(answer, 429, "quota-exceeded")
    assert int(answer.headers["retry-after"]) >= 1
