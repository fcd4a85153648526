"""What browsers, players, monitors and integrators send, and what they get."""

from __future__ import annotations

import gzip

import httpx
import pytest

from cluster.settings import ServeConfig
from cluster.stack.doctor import examine
from cluster.state.problems import Problem
from tests.support.serve import SMALL, api_over, assert_problem, do, make_worker, speech, take
from tests.support.stack import reaching

PAGE = "https://app.example.com"


@pytest.fixture
def done(api, own, tmp_path):
    """A customer with one finished render: the customer, the render, its bytes."""
    own.ask(0.4)
    worker, _ = make_worker(api.services, tmp_path / "disk")
    claim = take(api.services, own.tenant)
    assert do(worker, claim) == "done"
    render = own.client.get(f"/v1/renders/{claim.job.id}").json()
    return own, render, httpx.get(render["result"]["url"], trust_env=False).content


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/renders", "/v1/identities"])
def test_head_is_answered_as_get_without_a_body(own, path):
    head, get = own.client.head(path), own.client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


def test_head_of_an_unknown_render_is_404_and_needs_a_key(api, own):
    assert own.client.head("/v1/renders/r-x").status_code == 404
    assert api.client.head("/v1/renders").status_code == 401


def test_a_video_plays_in_a_page_and_can_be_saved(done):
    own, render, video = done
    path = f"/v1/renders/{render['id']}/video"
    answer = own.client.get(path)
    assert (answer.status_code, answer.content) == (200, video)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-disposition"].startswith("inline")
    assert own.client.get(f"{path}?download=1").headers["content-disposition"].startswith("attachment")
    head = own.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert (head.headers["content-length"], head.headers["accept-ranges"]) == (str(len(video)), "bytes")


def test_a_video_is_served_in_ranges(done):
    own, render, video = done
    path = f"/v1/renders/{render['id']}/video"
    for wanted, expected in (("bytes=0-1", video[:2]), ("bytes=5-", video[5:]), ("bytes=-7", video[-7:])):
        answer = own.client.get(path, headers={"Range": wanted})
        assert (answer.status_code, answer.content) == (206, expected)
        assert answer.headers["content-range"].endswith(f"/{len(video)}")
    assert_problem(own.client.get(path, headers={"Range": "bytes=99999999-"}), 416, "range-not-satisfiable")
    assert own.client.get(path, headers={"Range": "lines=1-2"}).status_code == 200


def test_a_video_that_is_not_there_yet_or_is_anothers_is_not_found(api, own, done):
    waiting = own.ask().json()["id"]
    assert_problem(own.client.get(f"/v1/renders/{waiting}/video"), 404, "no-video")
    stranger = api.customer()
    assert_problem(stranger.client.get(f"/v1/renders/{done[1]['id']}/video"), 404, "unknown-render")


def test_the_presigned_link_plays_and_serves_ranges(done):
    _, render, video = done
    answer = httpx.get(render["result"]["url"], headers={"Range": "bytes=0-1"}, trust_env=False)
    assert (answer.status_code, answer.content) == (206, video[:2])
    assert answer.headers["content-disposition"].startswith("inline")


def test_pages_of_allowed_origins_may_call_and_others_may_not(stack, folder):
    config = ServeConfig(**{**SMALL.model_dump(), "allowed_origins": PAGE})
    with api_over(stack, config) as api:
        asked = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,idempotency-key",
        }
        preflight = api.client.options("/v1/renders", headers={"Origin": PAGE, **asked})
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == PAGE
        assert api.client.get("/healthz", headers={"Origin": PAGE}).headers["access-control-allow-origin"] == PAGE
        strange = api.client.get("/healthz", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in strange.headers


def test_without_the_setting_no_page_may_call(api):
    assert "access-control-allow-origin" not in api.client.get("/healthz", headers={"Origin": PAGE}).headers


def multipart(own, body, content_type="multipart/form-data; boundary=x", **headers):
    return own.client.post("/v1/renders", content=body, headers={"Content-Type": content_type, **headers})


def part(name, data, more=""):
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


@pytest.mark.parametrize("sound", [b"short", speech(0.5)])
def test_a_file_without_a_file_name_is_named(own, sound):
    answer = multipart(own, part("audio", sound) + part("identity", b"anna") + b"--x--\r\n")
    problem = assert_problem(answer, 422, "invalid-request")
    assert {"field": "audio", "detail": "a file is expected; send it with a filename"} in problem["errors"]


def test_a_body_without_its_boundary_says_what_to_do(own):
    problem = assert_problem(multipart(own, b"x", "multipart/form-data"), 400, "malformed-request")
    assert "Let your client set Content-Type" in problem["detail"]


def test_a_packed_body_is_refused_as_packed(own):
    body = gzip.compress(part("identity", b"anna") + b"--x--\r\n")
    problem = assert_problem(multipart(own, body, **{"Content-Encoding": "gzip"}), 415, "unsupported-media-type")
    assert "packed (gzip)" in problem["detail"]


@pytest.mark.parametrize(
    "name",
    ["C:\\\\Users\\\\anna\\\\speech.wav", "\u0438\u043d\u0442\u0435\u0440\u0432\u044c\u044e.wav", "a b;c=d.wav", ".."],
)
def test_names_of_files_and_blanks_around_texts_do_not_matter(own, name):
    body = part("audio", speech(0.5), f'; filename="{name}"') + part("identity", b" anna ") + b"--x--\r\n"
    assert multipart(own, body).status_code == 202


def test_a_failed_render_can_be_asked_for_again_under_its_key(api, own):
    headers = {"Idempotency-Key": "take-1"}
    first = own.ask(headers=headers).json()["id"]
    assert own.ask(headers=headers).json()["id"] == first
    claim = take(api.services, own.tenant)
    api.services.state.jobs.fail(claim, Problem(code="internal-error", title="t"), retry=False)
    second = own.ask(headers=headers).json()
    assert second["id"] != first
    assert second["status"] == "queued"
    assert own.ask(headers=headers).json()["id"] == second["id"]
    assert own.client.get(f"/v1/renders/{first}").json()["status"] == "failed"


def test_the_doctor_finds_nothing_missing_but_what_is(api, stack):
    found = list(examine(api.platform))
    troubles = {finding.service: finding.trouble for finding in found if finding.trouble}
    assert set(troubles) <= {"ray"}  # the stack of the tests has none
    assert len(found) == 8
    broken = reaching(stack, s3_public_endpoint="http://127.0.0.1:9")
    (link,) = [finding for finding in examine(type(api.platform)(broken)) if "presigned" in finding.needed]
    assert "may this machine reach it" in link.trouble
