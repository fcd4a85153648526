"""Batches over HTTP: asked for once, listed, paused, resumed and cancelled."""

from __future__ import annotations

import httpx
import pytest

from tests.integration.serve_apps.resources.test_api_fits import ready_recording
from tests.support.serve import Customer, assert_problem

BATCHES = "/v1/batches"


@pytest.fixture
def own(api) -> Customer:
    return api.customer()


@pytest.fixture
def recording(api, own) -> str:
    return ready_recording(api, own.tenant)


def order(own: Customer, recording: str | None, *, key: str | None = None, **changes) -> httpx.Response:
    item = {"identity": "anna", **({} if recording is None else {"recording": recording})}
    body = {"kind": "judge" if recording is None else "fit", "items": [item], **changes}
    return own.client.post(BATCHES, json=body, headers={} if key is None else {"Idempotency-Key": key})


def test_a_batch_is_asked_for_once_and_listed(own, recording):
    answer = order(own, recording, key="fleet-1", wave=3, fit={"quality": "quick"})
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"{BATCHES}/{body['id']}"
    assert (body["status"], body["progress"], body["counts"]) == ("running", 0.0, {"waiting": 1})
    assert body["items"] == [{"identity": "anna", "status": "waiting", "fit": None, "detail": ""}]
    assert order(own, recording, key="fleet-1", wave=3, fit={"quality": "quick"}).json()["id"] == body["id"]
    assert_problem(order(own, recording, key="fleet-1", wave=4), 422, "idempotency-conflict")
    other = order(own, None).json()["id"]
    assert own.client.get(f"{BATCHES}/{body['id']}").json() == body
    first = own.client.get(BATCHES, params={"limit": 1}).json()
    rest = own.client.get(BATCHES, params={"limit": 1, "after": first["next"]}).json()
    assert [batch["id"] for batch in (*first["batches"], *rest["batches"])] == [other, body["id"]]


def test_a_batch_is_paused_resumed_and_cancelled(own, recording):
    path = f"{BATCHES}/{order(own, recording).json()['id']}"
    paused = own.client.post(f"{path}/pause").json()
    assert (paused["status"], paused["reason"]) == ("paused", "by wish")
    assert own.client.post(f"{path}/resume").json()["status"] == "running"
    assert own.client.delete(path).json()["status"] == "cancelling"
    assert_problem(own.client.post(f"{path}/resume"), 409, "conflict")


@pytest.mark.parametrize(
    "wrong",
    [{"items": []}, {"kind": "x"}, {"wave": 0}, {"items": [{"identity": "anna"}]}, {"fit": {"minutes": 1000}}],
)
def test_a_batch_that_makes_no_sense_is_refused(own, recording, wrong):
    assert_problem(order(own, recording, **wrong), 422, "invalid-request")


def test_few_batches_are_open_at_once(own, recording):
    for _ in range(10):
        assert order(own, recording).status_code == 202
    answer = order(own, recording)
    assert_problem(answer, 429, "too-many-batches")
    assert int(answer.headers["retry-after"]) > 0
