"""Client tokens over HTTP: a page may make renders of one identity with one, and nothing else."""

from __future__ import annotations

import pytest

from tests.integration.serve_apps.people.test_keys_routes import FOR_TOKENS, bearer
from tests.integration.serve_apps.test_api_tenants import ROUTES
from tests.support.serve import assert_problem, speech

PAGE = "https://app.example.com"
KEYED = sorted(route for route in ROUTES if route[1].startswith("/v1"))


def make_token(customer, **changes) -> dict:
    answer = customer.client.post("/v1/tokens", json={"identity": "anna", "origin": PAGE, **changes})
    assert answer.status_code == 201, answer.text
    return answer.json()


def of_page(token: str, origin: str | None = PAGE) -> dict[str, str]:
    return {**bearer(token), **({} if origin is None else {"Origin": origin})}


def ask(api, headers, identity: str = "anna"):
    files = {"audio": ("speech.wav", speech(0.5), "audio/wav")}
    return api.client.post("/v1/renders", files=files, data={"identity": identity}, headers=headers)


def test_a_page_makes_a_render_with_a_token_follows_it_and_cancels_it(api, own):
    page = of_page(make_token(own)["token"])
    made = ask(api, page)
    assert made.status_code == 202
    assert made.headers["access-control-allow-origin"] == PAGE
    where = made.headers["location"]
    assert api.client.get(where, headers=page).json() == made.json()
    assert_problem(api.client.get(f"{where}/video", headers=page), 404, "no-video")
    assert api.client.delete(where, headers=page).json()["status"] == "cancelled"


@pytest.mark.parametrize(("method", "path"), KEYED)
def test_a_token_opens_no_route_but_those_of_its_purpose(api, own, method, path):
    page = of_page(make_token(own)["token"])
    answer = api.client.request(method, path, headers=page)
    if (method, path) in FOR_TOKENS:
        assert answer.status_code in (404, 415)  # let in: there is no such render, no form was sent
    else:
        assert "client token" in assert_problem(answer, 403, "missing-scope")["detail"]


def test_a_token_sees_no_other_identity_and_none_of_its_renders(api, own, folder):
    api.register(own.tenant, folder, name="ben")
    page = {**of_page(make_token(own)["token"]), "X-Request-Id": "a" * 32}
    of_ben, of_anna = own.ask(identity="ben").json()["id"], own.ask().json()["id"]
    unknown = ask(api, page, "nobody")
    for identity in ("ben", "ben@1", "ben@champion", f"{own.tenant}.ben"):
        answer = ask(api, page, identity)
        assert_problem(answer, 404, "unknown-identity")
        assert answer.content == unknown.content
    for method, path in (("GET", ""), ("GET", "/video"), ("DELETE", "")):
        answer = api.client.request(method, f"/v1/renders/{of_ben}{path}", headers=page)
        assert_problem(answer, 404, "unknown-render")
    assert api.client.get(f"/v1/renders/{of_anna}", headers=page).status_code == 200
    assert own.client.get(f"/v1/renders/{of_ben}").json()["status"] == "queued"


def test_a_token_of_one_tenant_opens_nothing_of_another(api, own, folder):
    other = api.customer()
    api.register(other.tenant, folder)
    render_id = other.ask().json()["id"]
    page = of_page(make_token(own)["token"])
    assert_problem(api.client.get(f"/v1/renders/{render_id}", headers=page), 404, "unknown-render")


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null", PAGE + ":8443", PAGE.upper(), "x" * 5000])
def test_a_token_is_of_no_use_to_pages_of_another_origin(api, own, origin):
    headers = of_page(make_token(own)["token"], origin)
    assert_problem(api.client.get("/v1/renders/r-x", headers=headers), 403, "wrong-origin")
    assert_problem(ask(api, headers), 403, "wrong-origin")


def test_a_refused_token_takes_no_place_in_the_queue(api, own):
    headers = of_page(make_token(own)["token"], "https://evil.example")
    for _ in range(6):  # more than open renders or uploads at once
        assert_problem(ask(api, headers), 403, "wrong-origin")
    assert own.ask().status_code == 202


def test_a_revoked_token_and_one_whose_key_was_revoked_let_nobody_in(api, own):
    token = make_token(own)
    assert own.client.get(f"/v1/tokens/{token['id']}").status_code == 200
    assert own.client.delete(f"/v1/tokens/{token['id']}").status_code == 204
    assert_problem(ask(api, of_page(token["token"])), 401, "invalid-credentials")
    assert_problem(own.client.delete(f"/v1/tokens/{token['id']}"), 404, "unknown-token")
    key = own.client.post("/v1/keys").json()
    answer = api.client.post("/v1/tokens", json={"identity": "anna", "origin": PAGE}, headers=bearer(key["key"]))
    page = of_page(answer.json()["token"])
    assert answer.json()["made_by"] == key["id"]
    assert api.client.get("/v1/renders/r-x", headers=page).status_code == 404
    own.client.delete(f"/v1/keys/{key['id']}")
    assert_problem(api.client.get("/v1/renders/r-x", headers=page), 401, "invalid-credentials")


def test_a_token_is_shown_once_and_listed_without_its_secret(own):
    made = make_token(own, expires_in_s=3600)
    token = made.pop("token")
    assert own.client.get("/v1/tokens").json() == {"tokens": [made], "next": None}
    assert token not in own.client.get(f"/v1/tokens/{made['id']}").text


def test_a_repeated_request_makes_one_token(own):
    headers = {"Idempotency-Key": "visit-1"}
    body = {"identity": "anna", "origin": PAGE}
    made = [own.client.post("/v1/tokens", json=body, headers=headers).json() for _ in range(2)]
    assert made[0] == made[1]
    other = {**body, "origin": "https://other.example"}
    assert_problem(own.client.post("/v1/tokens", json=other, headers=headers), 422, "idempotency-conflict")


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_in_s": 3601},
        {"expires_in_s": 0},
        {"origin": "*"},
        {"origin": "null"},
        {"origin": "https://a.example,https://b.example"},
        {"origin": "https://a.example/path"},
        {"identity": "anna@1"},
        {"purpose": "live"},
    ],
)
def test_a_token_that_could_do_more_or_live_longer_is_not_made(own, changes):
    answer = own.client.post("/v1/tokens", json={"identity": "anna", "origin": PAGE, **changes})
    assert_problem(answer, 422, "invalid-request")
    assert own.client.get("/v1/tokens").json()["tokens"] == []


def test_there_is_no_token_for_an_identity_that_is_not_there(own):
    answer = own.client.post("/v1/tokens", json={"identity": "nobody", "origin": PAGE})
    assert_problem(answer, 404, "unknown-identity")


def test_browsers_let_pages_with_a_token_call_the_routes_of_renders_and_no_others(api, own):
    origin = f"https://{own.tenant}.example"
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    assert "access-control-allow-origin" not in api.client.options("/v1/renders", headers=asked).headers
    make_token(own, origin=origin)
    preflight = api.client.options("/v1/renders", headers=asked)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, origin)
    assert "access-control-allow-origin" not in api.client.options("/v1/tokens", headers=asked).headers
    assert "access-control-allow-origin" not in api.client.get("/healthz", headers={"Origin": origin}).headers
