"""``/v1/webhooks``: made once, shown without secrets, and told again on request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.serve import assert_problem

NEW = {"url": "https://hooks.example/x", "events": ["render.done", "render.cancelled"], "note": "ours"}


@pytest.fixture
def webhook(own):
    return own.client.post("/v1/webhooks", json=NEW).json()


@pytest.fixture
def delivery(own, webhook):
    """Something that the webhook is to be told."""
    own.client.delete(f"/v1/renders/{own.ask().json()['id']}")
    return own.client.get(f"/v1/webhooks/{webhook['id']}/deliveries").json()["deliveries"][0]


def test_a_webhook_shows_its_secret_once(own):
    answer = own.client.post("/v1/webhooks", json=NEW)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert made["secret"].startswith("whsec_")
    assert answer.headers["location"] == f"/v1/webhooks/{made['id']}"
    shown = own.client.get(answer.headers["location"]).json()
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert own.client.get("/v1/webhooks").json() == {"webhooks": [shown], "next": None}
    assert (shown["url"], shown["note"], shown["events"]) == (NEW["url"], "ours", sorted(NEW["events"]))


def test_creates_under_one_key_are_one_and_another_body_is_refused(own):
    def create(_: int):
        return own.client.post("/v1/webhooks", json=NEW, headers={"Idempotency-Key": "k"})

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(create, range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    other = own.client.post("/v1/webhooks", json={**NEW, "note": "b"}, headers={"Idempotency-Key": "k"})
    assert_problem(other, 422, "idempotency-conflict")
    own.client.delete(f"/v1/webhooks/{answers[0].json()['id']}")
    assert_problem(create(0), 409, "conflict")


@pytest.mark.parametrize(
    "body",
    [
        *({"url": "http://hooks.example/"}, {"url": "https://127.0.0.1/"}, {"url": "https://[::ffff:10.0.0.1]/"}),
        *({"url": "https://u:p@hooks.example/"}, {"url": ""}, {}, {**NEW, "events": ["render.begun"]}),
        *({**NEW, "note": "a\n"}, {**NEW, "secret": "whsec_"}),
    ],
)
def test_what_cannot_be_told_is_refused(own, body):
    answer = own.client.post("/v1/webhooks", json=body)
    assert answer.status_code == 422
    assert own.client.get("/v1/webhooks").json()["webhooks"] == []


def test_a_tenant_has_so_many_webhooks_at_most(own):
    for _ in range(20):
        assert own.client.post("/v1/webhooks", json=NEW).status_code == 201
    assert_problem(own.client.post("/v1/webhooks", json=NEW), 409, "conflict")


def test_a_rotation_shows_the_new_secret_and_under_one_key_it_is_one(own, webhook):
    path, key = f"/v1/webhooks/{webhook['id']}/rotate", {"Idempotency-Key": "k"}
    first = own.client.post(path, json={"overlap_s": 60}, headers=key)
    assert first.status_code == 200
    assert first.json()["secret"] != webhook["secret"]
    assert own.client.post(path, json={"overlap_s": 60}, headers=key).json() == first.json()
    assert_problem(own.client.post(path, json={"overlap_s": 61}, headers=key), 422, "idempotency-conflict")
    acts = [entry["what"] for entry in own.client.get("/v1/audit").json()["entries"]]
    assert acts.count("rotate-webhook") == 1


def test_what_a_webhook_is_told_is_listed_and_replayed(own, webhook, delivery):
    assert (delivery["type"], delivery["state"]) == ("render.cancelled", "waiting")
    path = f"/v1/webhooks/{webhook['id']}/deliveries/{delivery['id']}"
    assert own.client.get(path).json() == delivery
    answer = own.client.post(f"{path}/replay")
    assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
    assert own.client.get(f"/v1/webhooks/{webhook['id']}/deliveries?state=dead").json() == {
        "deliveries": [],
        "next": None,
    }


def test_deliveries_come_in_pages_the_newest_first(own, webhook):
    for _ in range(3):
        own.client.delete(f"/v1/renders/{own.ask().json()['id']}")
    path, seen, after = f"/v1/webhooks/{webhook['id']}/deliveries", [], ""
    whole = own.client.get(path).json()["deliveries"]
    while after is not None:
        page = own.client.get(path, params={"limit": 2, "after": after}).json()
        seen += page["deliveries"]
        after = page["next"]
    assert seen == whole
    assert [each["id"].rpartition("-")[2] for each in whole] == ["3", "2", "1"]


def test_a_deleted_webhook_is_gone_with_its_deliveries(own, webhook, delivery):
    path = f"/v1/webhooks/{webhook['id']}"
    assert own.client.delete(path).status_code == 204
    for gone in (path, f"{path}/deliveries", f"{path}/deliveries/{delivery['id']}"):
        assert_problem(own.client.get(gone), 404, "unknown-webhook")
