"""The API over HTTP and real services: renders, idempotency, quotas, cancelling, champions, health."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from cluster.ids import RenderId
from cluster.state.problems import Problem
from serve_apps.api.ingress import create_api
from serve_apps.api.services import make_services
from serve_apps.tickets import render_prefix
from tests.support.http_server import serving
from tests.support.serve import SMALL, assert_problem, speech, stored, take
from tests.support.stack import reaching

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "http.md"


# -- creating and looking ----------------------------------------------------------------------------------------


def test_a_render_is_accepted_and_can_be_looked_at(own):
    answer = own.ask(1.5, background="#A0b1C2")
    assert answer.status_code == 202
    render = answer.json()
    assert answer.headers["location"] == f"/v1/renders/{render['id']}"
    assert (render["status"], render["progress"], render["version"]) == ("queued", 0.0, 1)
    assert (render["background"], render["audio_seconds"], render["identity"]) == ("#a0b1c2", 1.5, "anna")
    assert own.client.get(answer.headers["location"]).json() == render
    assert own.client.get("/v1/renders").json() == {"renders": [render], "next": None}


def test_renders_are_listed_newest_first_in_parts(own):
    ids = [own.ask().json()["id"] for _ in range(3)]
    listed = [render["id"] for render in own.client.get("/v1/renders?limit=2").json()["renders"]]
    rest = [render["id"] for render in own.client.get("/v1/renders?limit=2&offset=2").json()["renders"]]
    assert listed + rest == ids[::-1]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "offset=-1", "limit=x"])
def test_a_wrong_part_of_the_list_is_refused(anna, query):
    problem = assert_problem(anna.client.get(f"/v1/renders?{query}"), 422, "invalid-request")
    assert problem["errors"][0]["field"] == "query." + query.split("=")[0]


def test_identities_are_listed_with_their_champion(api, own, folder):
    api.register(own.tenant, folder, promote=False)
    expected = {"identities": [{"identity": "anna", "champion": 1, "versions": [1, 2]}], "next": None}
    assert own.client.get("/v1/identities").json() == expected


def test_identities_are_listed_in_pages_by_name(api, own, folder):
    for name in ("carl", "ben"):
        api.register(own.tenant, folder, name=name, promote=False)
    pages, after = [], ""
    while after is not None:
        page = own.client.get("/v1/identities", params={"limit": 2, "after": after}).json()
        pages.append([entry["identity"] for entry in page["identities"]])
        after = page["next"]
    assert pages == [["anna", "ben"], ["carl"]]


def test_a_picture_is_kept_as_a_plain_png(api, own):
    data = io.BytesIO()
    Image.new("RGB", (64, 48), (9, 8, 7)).save(data, "JPEG")
    answer = own.client.post(
        "/v1/renders",
        files={"audio": ("a.wav", speech(1)), "background_image": ("b.jpg", data.getvalue())},
        data={"identity": "anna"},
    )
    assert answer.json()["background"] == "image"
    prefix = render_prefix(own.tenant, RenderId.parse(answer.json()["id"]))
    picture = Image.open(io.BytesIO(api.services.store.get_bytes(prefix + "background.png")))
    assert (picture.format, picture.size) == ("PNG", (64, 48))


@pytest.mark.parametrize("identity", ["nobody", "anna@99", "anna@previous", "nobody@champion"])
def test_an_identity_that_is_not_there_is_unknown(anna, identity):
    assert_problem(anna.ask(identity=identity), 404, "unknown-identity")


# -- idempotency and quotas --------------------------------------------------------------------------------------


def test_parallel_requests_under_one_key_make_one_render(api, own):
    audio = speech(1)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(own.ask, audio=audio, headers={"Idempotency-Key": "k"}) for _ in range(6)]
        answers = [each.result(120) for each in asked]
    assert {answer.status_code for answer in answers} == {202}
    ids = {answer.json()["id"] for answer in answers}
    assert len(ids) == 1
    assert len(own.client.get("/v1/renders").json()["renders"]) == 1
    assert stored(api, own.tenant) == ids  # the copies of the others are gone


@pytest.mark.parametrize("change", [{"identity": "anna@1"}, {"background": "#000000"}, {"audio": speech(1.2)}])
def test_another_request_under_the_same_key_is_refused(api, own, change):
    headers = {"Idempotency-Key": "k"}
    first = own.ask(headers=headers).json()["id"]
    assert_problem(own.ask(headers=headers, **change), 422, "idempotency-conflict")
    assert stored(api, own.tenant) == {first}


@pytest.mark.parametrize("key", ["", "x" * 201, "with space", "t\tab"])
def test_a_malformed_idempotency_key_is_refused(anna, key):
    assert_problem(anna.ask(headers={"Idempotency-Key": key}), 422, "invalid-request")


def test_a_full_tenant_is_told_when_to_come_back_and_others_are_not_affected(api, own, anna):
    ids = [own.ask().json()["id"] for _ in range(SMALL.max_active_renders)]
    for headers in ({}, {"Idempotency-Key": "late"}):
        answer = own.ask(headers=headers)
        assert_problem(answer, 429, "quota-exceeded")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert stored(api, own.tenant) == set(ids)
    answer = anna.ask()
    assert answer.status_code == 202
    anna.client.delete(answer.headers["location"])
    own.client.delete(f"/v1/renders/{ids[0]}")
    assert own.ask().status_code == 202


def test_a_repeated_request_is_answered_even_when_the_tenant_is_full(own):
    headers = {"Idempotency-Key": "k"}
    first = own.ask(headers=headers).json()["id"]
    for _ in range(SMALL.max_active_renders - 1):
        assert own.ask().status_code == 202
    assert own.ask(headers=headers).json()["id"] == first


# -- cancelling --------------------------------------------------------------------------------------------------


def test_a_cancelled_render_stays_cancelled_and_keeps_no_files(api, own):
    location = own.ask().headers["location"]
    assert own.client.delete(location).json()["status"] == "cancelled"
    assert own.client.delete(location).json()["status"] == "cancelled"
    assert own.client.get(location).json()["status"] == "cancelled"
    assert stored(api, own.tenant) == set()
    assert api.services.state.jobs.claim("render", worker="t", lease_s=9, tenant=own.tenant) is None


def test_a_finished_render_cannot_be_cancelled(api, own):
    answer = own.ask()
    claim = take(api.services, own.tenant)
    api.services.state.jobs.fail(claim, Problem(code="internal-error", title="t"))
    assert_problem(own.client.delete(answer.headers["location"]), 409, "render-finished")
    render = own.client.get(answer.headers["location"]).json()
    assert (render["status"], render["error"]["status"]) == ("failed", 500)


def test_a_render_that_killed_every_worker_says_so(api, own):
    answer = own.ask()
    jobs, render_id = api.services.state.jobs, RenderId.parse(answer.json()["id"])
    for _ in range(SMALL.max_attempts):
        take(api.services, own.tenant, lease_s=0.001)
        while jobs.get(own.tenant, render_id).status == "running":
            jobs.requeue_expired("render")
    render = own.client.get(answer.headers["location"]).json()
    assert (render["status"], render["attempt"]) == ("failed", SMALL.max_attempts)
    assert render["error"]["type"] == "urn:m2dao:problem:internal-error"


# -- champions ---------------------------------------------------------------------------------------------------


def test_a_promotion_is_served_without_a_restart_and_open_renders_keep_their_version(api, own, folder):
    before = own.ask().json()
    api.register(own.tenant, folder, promote=True)
    assert own.ask().json()["version"] == 2
    assert own.client.get(f"/v1/renders/{before['id']}").json()["version"] == 1
    assert own.ask(identity="anna@1").json()["version"] == 1
    assert own.ask(identity="anna@previous").json()["version"] == 1


# -- health and description --------------------------------------------------------------------------------------


def test_a_lost_service_is_told_by_readiness_and_not_by_liveness(stack):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        broken = reaching(stack, redis_url=f"redis://127.0.0.1:{unused.getsockname()[1]}/0")
        services = make_services(broken, SMALL)
        closing = contextlib.closing(services.state), contextlib.closing(services.decoder)
        with serving(create_api(services)) as client, closing[0], closing[1]:
            assert client.get("/healthz").json() == {"status": "ok"}
            assert_problem(client.get("/readyz"), 503, "service-unavailable")
            answer = client.get("/v1/renders", headers={"Authorization": "Bearer m2dao_" + "x" * 43})
            assert_problem(answer, 503, "service-unavailable")
            assert int(answer.headers["retry-after"]) > 0


def test_readiness_is_told_when_all_services_answer(api):
    assert api.client.get("/readyz").json() == {"status": "ok", "degraded": []}


def test_unknown_routes_and_methods_are_problems(api):
    assert_problem(api.client.get("/"), 404, "not-found")
    assert_problem(api.client.get("/v1/renders/"), 404, "not-found")
    assert_problem(api.client.get("/docs"), 404, "not-found")
    for path, methods in (
        ("/v1/renders", "GET, HEAD, POST"),
        ("/v1/renders/r-x", "DELETE, GET, HEAD"),
        ("/healthz", "GET, HEAD"),
    ):
        answer = api.client.put(path)
        assert_problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == methods


def test_every_route_is_documented_with_an_example():
    text = DOCS.read_text()
    for path, operations in create_api(None).openapi()["paths"].items():
        for method in operations:
            section = text.split(f"### `{method.upper()} {path}`")
            assert len(section) == 2, (method, path)
        example = re.sub(r"\\\{\w+\\\}", r"[\\w-]+", re.escape(path))
        assert re.search(rf"curl [^`]*{example}\b", text), path


def test_the_description_is_served_without_a_key(api):
    document = api.client.get("/openapi.json").json()
    assert json.loads(json.dumps(create_api(None).openapi())) == document
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == path.startswith("/v1")
