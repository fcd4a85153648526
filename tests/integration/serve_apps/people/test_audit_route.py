"""``/v1/audit``: what keys and tokens have done, for those who may see it."""

from __future__ import annotations

import pytest

from tests.integration.serve_apps.people.test_keys_routes import bearer
from tests.support.serve import assert_problem


def test_acts_over_http_are_noted_with_the_key_that_asked(api, own):
    admin_id = own.client.get("/v1/keys").json()["keys"][0]["id"]
    made = own.client.post("/v1/keys", json={"scopes": ["admin"]}).json()
    second = bearer(made["key"])
    token = own.client.post("/v1/tokens", json={"identity": "anna", "origin": "https://a.example"}).json()
    assert api.client.delete(f"/v1/keys/{admin_id}", headers=second).status_code == 204
    page = api.client.get("/v1/audit", headers=second).json()
    acts = [(entry["by"], entry["what"], entry["on"], entry["after"]) for entry in page["entries"][:3]]
    assert acts == [
        (f"key:{made['id']}", "revoke-key", f"key:{admin_id}", ""),
        (f"key:{admin_id}", "create-token", f"token:{token['id']}", "anna"),
        (f"key:{admin_id}", "create-key", f"key:{made['id']}", "admin"),
    ]
    assert made["key"] not in str(page)
    assert token["token"] not in str(page)


def test_what_is_done_in_another_thread_is_noted_with_the_key_that_asked(api, own, folder):
    api.register(own.tenant, folder, promote=False)
    assert own.client.delete("/v1/identities/anna/versions/2").status_code == 204
    key_id = own.client.get("/v1/keys").json()["keys"][0]["id"]
    entry = own.client.get("/v1/audit").json()["entries"][0]
    assert (entry["by"], entry["what"]) == (f"key:{key_id}", "delete-version")
    assert (entry["on"], entry["before"], entry["after"]) == ("identity:anna", "2", "")


def test_the_trail_is_read_in_pages(own):
    for _ in range(3):
        own.client.post("/v1/keys")
    whole = own.client.get("/v1/audit").json()
    listed, before = [], ""
    while before is not None:
        page = own.client.get("/v1/audit", params={"limit": 2, "before": before}).json()
        listed += page["entries"]
        before = page["next"]
    assert listed == whole["entries"]
    assert [entry["what"] for entry in listed[:3]] == ["create-key"] * 3


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "before=x", "before=-"])
def test_a_wrong_page_is_refused(own, query):
    assert_problem(own.client.get(f"/v1/audit?{query}"), 422, "invalid-request")
