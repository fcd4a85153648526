"""The API over real HTTP and the real services: tenants, idempotency, quotas, hostile uploads, cancelling."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from cluster.ids import RenderId, TenantId
from cluster.state.problems import Problem
from serve_apps.api.ingress import create_api
from serve_apps.api.services import make_services
from serve_apps.identities.aliases import parse_identity
from serve_apps.tickets import render_prefix
from tests.support.http_server import serving
from tests.support.serve import SMALL, Api, Customer, api_over, speech, take
from tests.support.stack import reaching
from tests.support.tiny_identity import make_tiny_identity

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "http.md"


@pytest.fixture(scope="module")
def api(stack):
    with api_over(stack) as api:
        yield api


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_tiny_identity(tmp_path_factory.mktemp("identity") / "anna", size=32)


@pytest.fixture(scope="module")
def anna(api: Api, folder: Path) -> Customer:
    """A tenant with the identity anna; tests that count renders take one of their own."""
    customer = api.customer()
    api.register(customer.tenant, folder)
    return customer


@pytest.fixture
def own(api: Api, folder: Path) -> Customer:
    customer = api.customer()
    api.register(customer.tenant, folder)
    return customer


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["type"], problem["status"]) == (f"urn:m2dao:problem:{code}", status)
    return problem


def stored(api: Api, tenant: TenantId) -> set[str]:
    """The tenant's renders that have files."""
    return {info.key.split("/")[2] for info in api.services.store.list(f"{tenant}/renders/")}


# -- creating and looking ----------------------------------------------------------------------------------------


def test_a_render_is_accepted_and_can_be_looked_at(own):
    answer = own.ask(1.5, background="#A0b1C2")
    assert answer.status_code == 202
    render = answer.json()
    assert answer.headers["location"] == f"/v1/renders/{render['id']}"
    assert (render["status"], render["progress"], render["version"]) == ("queued", 0.0, 1)
    assert (render["background"], render["audio_seconds"], render["identity"]) == ("#a0b1c2", 1.5, "anna")
    assert own.client.get(answer.headers["location"]).json() == render
    assert own.client.get("/v1/renders").json() == {"renders": [render]}


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
    expected = {"identities": [{"identity": "anna", "champion": 1, "versions": [1, 2]}]}
    assert own.client.get("/v1/identities").json() == expected


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


# -- tenants -----------------------------------------------------------------------------------------------------

ROUTES = {  # route -> the ids it takes; a test below fails when a route is missing here
    ("post", "/v1/renders"): "identity",
    ("get", "/v1/renders"): None,
    ("get", "/v1/renders/{render_id}"): "render",
    ("delete", "/v1/renders/{render_id}"): "render",
    ("get", "/v1/identities"): None,
    ("get", "/healthz"): None,
    ("get", "/readyz"): None,
}


def test_the_matrix_covers_every_route():
    paths = create_api(None).openapi()["paths"]
    assert {(method, path) for path, operations in paths.items() for method in operations} == set(ROUTES)


def comparable(answer: httpx.Response) -> tuple:
    headers = {k: v for k, v in answer.headers.items() if k not in ("date", "server")}
    return answer.status_code, answer.content, headers


def test_another_tenants_ids_answer_exactly_like_unknown_ones(api, folder):
    owner, other = api.customer(), api.customer()
    api.register(owner.tenant, folder)
    queued, running, cancelled = (owner.ask().json()["id"] for _ in range(3))
    owner.client.delete(f"/v1/renders/{cancelled}")
    api.services.state.jobs.claim("render", worker="t", lease_s=60, tenant=owner.tenant, job_id=RenderId.parse(running))
    made_up = ["r-" + "0" * 32, "r-x", "f-" + "0" * 32, queued.upper(), "..", "%2e%2e", "r-%00", "ü" * 50]
    hole = {"serve_multiplexed_model_id": f"{owner.tenant}.anna@1"}
    num_checked = 0
    for (method, path), kind in ROUTES.items():
        if kind == "render":
            answers = [
                other.client.request(method, path.replace("{render_id}", text), headers=headers)
                for text in (queued, running, cancelled)
                for headers in ({}, hole)
            ] + [other.client.request(method, path.replace("{render_id}", text)) for text in made_up[:4]]
            expected = "unknown-render"
        elif kind == "identity":
            names = [
                "anna",
                "anna@1",
                f"{owner.tenant}.anna",
                f"{owner.tenant}.anna@1",
                f"{owner.tenant}.anna@champion",
            ]
            answers = [other.ask(identity=name, headers=h) for name in [*names, "nobody", "x.y@3"] for h in ({}, hole)]
            expected = "unknown-identity"
        else:
            continue
        for answer in answers:
            assert_problem(answer, 404, expected)
        assert len({repr(comparable(answer)) for answer in answers}) == 1
        num_checked += len(answers)
    assert num_checked > 20
    for text in made_up:  # some never reach the route; whatever answers says no more than "not found"
        assert other.client.get(f"/v1/renders/{text}").status_code == 404
    assert other.client.get("/v1/renders").json() == {"renders": []}
    assert other.client.get("/v1/identities").json() == {"identities": []}
    states = {render["id"]: render["status"] for render in owner.client.get("/v1/renders").json()["renders"]}
    assert states == {queued: "queued", running: "queued", cancelled: "cancelled"}  # nobody has begun the claimed one


def test_an_idempotency_key_belongs_to_its_tenant(api, own, folder):
    other = api.customer()
    api.register(other.tenant, folder)
    first = own.ask(headers={"Idempotency-Key": "order-1"}).json()["id"]
    second = other.ask(headers={"Idempotency-Key": "order-1"}).json()["id"]
    assert first != second
    assert other.client.get(f"/v1/renders/{first}").status_code == 404


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1].startswith("/v1")])
def test_nothing_answers_without_a_valid_key(api, method, path):
    for headers, code in (
        ({}, "missing-credentials"),
        ({"Authorization": "Basic YTpi"}, "missing-credentials"),
        ({"Authorization": "Bearer m2dao_" + "x" * 43}, "invalid-credentials"),
        ({"Authorization": "Bearer"}, "missing-credentials"),
    ):
        answer = api.client.request(method, path, headers=headers)
        assert_problem(answer, 401, code)
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_revoked_key_stops_working_at_once(api):
    customer = api.customer()
    assert customer.client.get("/v1/renders").status_code == 200
    accounts = api.services.state.accounts
    accounts.revoke(customer.tenant, accounts.list_api_keys(customer.tenant)[0].key_id)
    assert_problem(customer.client.get("/v1/renders"), 401, "invalid-credentials")


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


# -- hostile uploads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("audio", [b"", b"\x00" * 999, b"#EXTM3U\nfile:///etc/passwd\n", speech(0.02), speech(25)])
def test_sound_that_cannot_be_used_is_refused_and_leaves_nothing(api, own, audio):
    problem = assert_problem(own.ask(audio=audio), 422, "unreadable-media")
    assert "/tmp" not in problem["detail"]
    assert stored(api, own.tenant) == set()
    assert own.client.get("/v1/renders").json() == {"renders": []}


def test_a_body_that_says_it_is_too_large_is_refused(anna):
    assert_problem(anna.ask(audio=b"x" * 1_200_000), 413, "upload-too-large")


def test_a_body_that_hides_its_size_is_cut_off(anna):
    sent = 0

    def endless():
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        for _ in range(4000):  # 256 MB if nobody stops it
            sent += 1 << 16
            yield b"x" * (1 << 16)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    # The server may also cut the connection while we are still sending.
    with contextlib.suppress(httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        assert_problem(anna.client.post("/v1/renders", content=endless(), headers=headers), 413, "upload-too-large")
    assert sent < 100_000_000


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "", "multipart/mixed; boundary=b"])
def test_another_media_type_is_refused(anna, content_type):
    answer = anna.client.post("/v1/renders", content=b"{}", headers={"Content-Type": content_type})
    assert_problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--b--"),
        ("multipart/form-data; boundary=b", b"no parts here"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X-Long: " + b"y" * 9000 + b"\r\n\r\nx\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="identity"\r\n\r\n' + b"y" * 5000,
        ),
    ],
    ids=["no-boundary", "no-parts", "no-name", "long-header", "long-text"],
)
def test_a_broken_body_is_refused(anna, content_type, body):
    assert_problem(
        anna.client.post("/v1/renders", content=body, headers={"Content-Type": content_type}), 400, "malformed-request"
    )


@pytest.mark.parametrize(
    ("files", "data", "field"),
    [
        ({}, {"identity": "anna"}, "audio"),
        ({"audio": ("a", b"x")}, {}, "identity"),
        ({"audio": ("a", b"x"), "extra": ("e", b"x")}, {"identity": "anna"}, "extra"),
        ({"audio": ("a", b"x"), "identity": ("i", b"anna")}, {}, "identity"),
        ({"x": ("x", b"")}, {"identity": "anna", "audio": "text"}, "audio"),
        ({"audio": ("a", b"x")}, {"identity": ["anna", "anna"]}, "identity"),
        ({"audio": ("a", b"x")}, {"identity": "anna", "background": "green"}, "background"),
        ({"audio": ("a", b"x")}, {"identity": "anna", "background": "transparent"}, "background"),
        (
            {"audio": ("a", b"x"), "background_image": ("b", b"")},
            {"identity": "anna", "background": "plate"},
            "background",
        ),
        ({"audio": ("a", b"x")}, {"identity": "../anna"}, "identity"),
    ],
)
def test_a_wrong_field_is_named(anna, files, data, field):
    # The boundary is set by hand, because httpx sends a form without files in another media type.
    answer = anna.client.post("/v1/renders", files=files or {"": ("", b"")}, data=data)
    if not files:
        assert answer.status_code in (400, 422)
        return
    problem = assert_problem(answer, 422, "invalid-request")
    assert field in {fault["field"] for fault in problem["errors"]}


def test_a_picture_that_cannot_be_used_is_refused(api, own):
    data = io.BytesIO()
    Image.new("RGB", (400, 300)).save(data, "PNG")  # more pixels than allowed
    for picture in (data.getvalue(), b"GIF89a", b""):
        files = {"audio": ("a.wav", speech(1)), "background_image": ("b", picture)}
        answer = own.client.post("/v1/renders", files=files, data={"identity": "anna"})
        assert_problem(answer, 422, "unreadable-media")
    assert stored(api, own.tenant) == set()


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
    heard = api.services.resolver
    api.register(own.tenant, folder, promote=True)
    for _ in range(200):  # the message is on its way
        after = heard.resolve(parse_identity("anna", own.tenant))
        if after.version == 2:
            break
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
        with serving(create_api(services)) as client, contextlib.closing(services.state):
            assert client.get("/healthz").json() == {"status": "ok"}
            assert_problem(client.get("/readyz"), 503, "service-unavailable")
            answer = client.get("/v1/renders", headers={"Authorization": "Bearer m2dao_" + "x" * 43})
            assert_problem(answer, 503, "service-unavailable")
            assert int(answer.headers["retry-after"]) > 0


def test_readiness_is_told_when_all_services_answer(api):
    assert api.client.get("/readyz").json() == {"status": "ok"}


def test_unknown_routes_and_methods_are_problems(api):
    assert_problem(api.client.get("/"), 404, "not-found")
    assert_problem(api.client.get("/v1/renders/"), 404, "not-found")
    assert_problem(api.client.get("/docs"), 404, "not-found")
    for path, methods in (("/v1/renders", "GET, POST"), ("/v1/renders/r-x", "DELETE, GET"), ("/healthz", "GET")):
        answer = api.client.put(path)
        assert_problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == methods


def test_every_route_is_documented_with_an_example():
    text = DOCS.read_text()
    for method, path in ROUTES:
        section = text.split(f"### `{method.upper()} {path}`")
        assert len(section) == 2, (method, path)
        example = re.escape(path).replace(r"\{render_id\}", r"r-[0-9a-f]{32}")
        assert re.search(rf"curl [^`]*{example}\b", text), (method, path)


def test_the_description_is_served_without_a_key(api):
    document = api.client.get("/openapi.json").json()
    assert json.loads(json.dumps(create_api(None).openapi())) == document
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == path.startswith("/v1")
