"""``/v1/keys`` over HTTP: scopes of routes, problem documents, secrets that are seen once."""

from __future__ import annotations

import pytest

from cluster.state.people.principals import Scope
from serve_apps.api.ingress import create_api
from tests.integration.serve_apps.test_api_tenants import ROUTES
from tests.support.serve import assert_problem

SCOPES = {  # route -> what it needs
    ("post", "/v1/renders"): "client",
    ("get", "/v1/renders"): "client",
    ("get", "/v1/renders/{render_id}"): "client",
    ("get", "/v1/renders/{render_id}/video"): "client",
    ("delete", "/v1/renders/{render_id}"): "client",
    ("get", "/v1/renders/{render_id}/events"): "client",
    ("post", "/v1/renders/{render_id}/retry"): "client",
    ("get", "/v1/identities"): "client",
    ("get", "/v1/identities/{identity}"): "operator",
    ("delete", "/v1/identities/{identity}"): "operator",
    ("get", "/v1/identities/{identity}/versions"): "operator",
    ("get", "/v1/identities/{identity}/versions/{version}"): "operator",
    ("delete", "/v1/identities/{identity}/versions/{version}"): "operator",
    ("get", "/v1/identities/{identity}/champion"): "operator",
    ("put", "/v1/identities/{identity}/champion"): "operator",
    ("post", "/v1/identities/{identity}/rollback"): "operator",
    ("get", "/v1/identities/{identity}/champion/history"): "operator",
    ("post", "/v1/fits"): "operator",
    ("get", "/v1/fits"): "operator",
    ("get", "/v1/fits/{fit_id}"): "operator",
    ("delete", "/v1/fits/{fit_id}"): "operator",
    ("post", "/v1/fits/{fit_id}/resume"): "operator",
    ("get", "/v1/fits/{fit_id}/events"): "operator",
    ("post", "/v1/recordings"): "operator",
    ("get", "/v1/recordings"): "operator",
    ("get", "/v1/recordings/{recording_id}"): "operator",
    ("get", "/v1/recordings/{recording_id}/parts"): "operator",
    ("post", "/v1/recordings/{recording_id}/complete"): "operator",
    ("delete", "/v1/recordings/{recording_id}"): "operator",
    ("get", "/v1/usage"): "operator",
    ("post", "/v1/webhooks"): "operator",
    ("get", "/v1/webhooks"): "operator",
    ("get", "/v1/webhooks/{webhook_id}"): "operator",
    ("delete", "/v1/webhooks/{webhook_id}"): "operator",
    ("post", "/v1/webhooks/{webhook_id}/rotate"): "operator",
    ("get", "/v1/webhooks/{webhook_id}/deliveries"): "operator",
    ("get", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}"): "operator",
    ("post", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay"): "operator",
    ("get", "/v1/identities/{identity}/challenger"): "operator",
    ("put", "/v1/identities/{identity}/challenger"): "operator",
    ("delete", "/v1/identities/{identity}/challenger"): "operator",
    ("post", "/v1/identities/{identity}/versions/{version}/export"): "operator",
    ("post", "/v1/batches"): "operator",
    ("get", "/v1/batches"): "operator",
    ("get", "/v1/batches/{batch_id}"): "operator",
    ("delete", "/v1/batches/{batch_id}"): "operator",
    ("post", "/v1/batches/{batch_id}/pause"): "operator",
    ("post", "/v1/batches/{batch_id}/resume"): "operator",
    ("post", "/v1/keys"): "admin",
    ("get", "/v1/keys"): "admin",
    ("get", "/v1/keys/{key_id}"): "admin",
    ("post", "/v1/keys/{key_id}/rotate"): "admin",
    ("delete", "/v1/keys/{key_id}"): "admin",
    ("get", "/v1/audit"): "admin",
    ("post", "/v1/tokens"): "client",
    ("get", "/v1/tokens"): "client",
    ("get", "/v1/tokens/{token_id}"): "client",
    ("delete", "/v1/tokens/{token_id}"): "client",
}

FOR_TOKENS = {  # routes that let client tokens in
    ("post", "/v1/renders"),
    ("get", "/v1/renders/{render_id}"),
    ("get", "/v1/renders/{render_id}/video"),
    ("delete", "/v1/renders/{render_id}"),
    ("get", "/v1/renders/{render_id}/events"),
    ("post", "/v1/renders/{render_id}/retry"),
}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_every_route_with_a_key_declares_the_one_scope_it_needs():
    declared = {
        (method, path): [scope for way in operation["security"] for scopes in way.values() for scope in scopes]
        for path, operations in create_api(None).openapi()["paths"].items()
        for method, operation in operations.items()
        if "security" in operation
    }
    assert {route: scopes[0] for route, scopes in declared.items()} == SCOPES
    assert {route for route, scopes in declared.items() if scopes[1:] == ["renders"]} == FOR_TOKENS
    assert all(scopes[1:] in ([], ["renders"]) for scopes in declared.values())


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1].startswith("/v1")])
def test_a_key_without_the_scope_of_a_route_is_told_which_it_needs(api, method, path):
    customer, needed = api.customer(), SCOPES[method, path]
    others = tuple(scope for scope in Scope if scope != needed)
    key = api.services.state.accounts.create_api_key(customer.tenant, scopes=others)
    answer = api.client.request(method, path, headers=bearer(key))
    problem = assert_problem(answer, 403, "missing-scope")
    assert f"the scope {needed}" in problem["detail"]
    assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'


def test_a_made_key_works_and_its_secret_is_seen_once(api, own):
    made = own.client.post("/v1/keys", json={"label": "website", "scopes": ["client"], "expires_in_s": 3600})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    body = made.json()
    key = body.pop("key")
    assert own.client.get(made.headers["location"]).json() == body
    assert (body["label"], body["scopes"], body["last_used_at"]) == ("website", ["client"], None)
    assert api.client.get("/v1/renders", headers=bearer(key)).status_code == 200
    assert key not in own.client.get("/v1/keys").text
    listed = {each["id"]: each for each in own.client.get("/v1/keys").json()["keys"]}
    assert listed[body["id"]]["last_used_at"] is not None


def test_a_revoked_key_lets_nobody_in_and_is_gone(api, own):
    made = own.client.post("/v1/keys").json()
    assert own.client.delete(f"/v1/keys/{made['id']}").status_code == 204
    assert_problem(api.client.get("/v1/renders", headers=bearer(made["key"])), 401, "invalid-credentials")
    assert_problem(own.client.delete(f"/v1/keys/{made['id']}"), 404, "unknown-key")


def test_a_rotation_keeps_both_keys_for_the_overlap_and_happens_once(api, own):
    old = own.client.post("/v1/keys", json={"label": "a"}).json()
    rotated = own.client.post(f"/v1/keys/{old['id']}/rotate", json={"overlap_s": 600})
    assert rotated.status_code == 201
    new = rotated.json()
    assert rotated.headers["location"] == f"/v1/keys/{new['id']}"
    for key in (old["key"], new["key"]):
        assert api.client.get("/v1/renders", headers=bearer(key)).status_code == 200
    before = own.client.get(f"/v1/keys/{old['id']}").json()
    assert before["replaced_by"] == new["id"]
    assert before["expires_at"] is not None
    problem = assert_problem(own.client.post(f"/v1/keys/{old['id']}/rotate"), 409, "conflict")
    assert new["id"] in problem["detail"]


def test_a_repeated_request_makes_one_key_and_another_one_under_its_name_is_refused(own):
    headers = {"Idempotency-Key": "first key"[:5]}
    made = [own.client.post("/v1/keys", json={"label": "a"}, headers=headers).json() for _ in range(3)]
    assert made[0] == made[1] == made[2]
    assert_problem(own.client.post("/v1/keys", json={"label": "b"}, headers=headers), 422, "idempotency-conflict")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"scopes": ["root"]}', "body.scopes.0"),
        ('{"scopes": []}', "body.scopes"),
        ('{"label": "' + "x" * 81 + '"}', "body.label"),
        ('{"expires_in_s": 0}', "body.expires_in_s"),
        ('{"tenant": "other"}', "body.tenant"),
        ("[]", "body"),
    ],
)
def test_a_wrong_field_is_named(own, body, field):
    answer = own.client.post("/v1/keys", content=body, headers={"Content-Type": "application/json"})
    assert assert_problem(answer, 422, "invalid-request")["errors"][0]["field"] == field


@pytest.mark.parametrize("body", ["{", "\x00", '{"label": ' + "[" * 9000, "nul"])
def test_a_body_that_is_no_json_is_refused_as_that(own, body):
    answer = own.client.post("/v1/keys", content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, 400, "malformed-request")


def test_a_body_of_another_type_or_without_end_is_refused(own):
    assert_problem(own.client.post("/v1/keys", data={"label": "a"}), 415, "unsupported-media-type")
    large = own.client.post("/v1/keys", content=b" " * 70_000, headers={"Content-Type": "application/json"})
    assert_problem(large, 413, "upload-too-large")


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "after=x", "after=1-zz"])
def test_a_wrong_page_is_refused(own, query):
    assert_problem(own.client.get(f"/v1/keys?{query}"), 422, "invalid-request")


def test_keys_are_listed_in_pages(own):
    for number in range(3):
        own.client.post("/v1/keys", json={"label": f"k{number}"})
    listed, after = [], ""
    while after is not None:
        page = own.client.get("/v1/keys", params={"limit": 3, "after": after}).json()
        listed += [each["id"] for each in page["keys"]]
        after = page["next"]
    assert listed == [each["id"] for each in own.client.get("/v1/keys").json()["keys"]]
    assert len(listed) == 4
