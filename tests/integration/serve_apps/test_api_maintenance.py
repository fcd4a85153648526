"""The API under maintenance: new renders are refused with a word, everything else goes on."""

from __future__ import annotations

import contextlib

import pytest

from tests.integration.serve_apps.test_api_door import answer_of, half_an_upload, until
from tests.support.serve import assert_problem, stored


@pytest.fixture
def maintenance(api):
    """The switch, which is off again after the test."""
    with contextlib.ExitStack() as undone:
        undone.callback(api.platform.state.maintenance.end)
        yield api.platform.state.maintenance


def assert_refused(answer) -> None:
    problem = assert_problem(answer, 503, "maintenance")
    assert "try again later" in problem["detail"]
    assert int(answer.headers["retry-after"]) >= 30


def test_new_renders_are_refused_and_accepted_ones_go_on(api, own, maintenance):
    render = own.ask(headers={"Idempotency-Key": "mine"}).json()
    maintenance.begin()
    assert_refused(own.ask())
    assert own.ask(headers={"Idempotency-Key": "mine"}).json()["id"] == render["id"]
    assert own.client.get(f"/v1/renders/{render['id']}").json()["status"] == "queued"
    assert own.client.get("/v1/identities").status_code == 200
    assert own.client.delete(f"/v1/renders/{render['id']}").json()["status"] == "cancelled"
    maintenance.end()
    assert own.ask().status_code == 202


def test_the_body_of_a_new_render_is_not_read(own, maintenance):
    maintenance.begin()
    with half_an_upload(own, sent=0) as connection:  # not a byte of the body is ever sent
        answer = answer_of(connection)
    assert answer.startswith("HTTP/1.1 503")
    assert "urn:m2dao:problem:maintenance" in answer


@pytest.mark.parametrize("form", [{}, {"sounds": "in the object store"}], ids=["kept with the job", "stored"])
def test_an_upload_that_races_the_switch_is_refused_and_leaves_nothing(api, own, maintenance, monkeypatch, form):
    decode = api.services.decoder.decode_audio

    async def decode_and_switch(*arguments):
        maintenance.begin()
        return await decode(*arguments)

    monkeypatch.setattr(api.services.decoder, "decode_audio", decode_and_switch)
    if form:
        monkeypatch.setattr("serve_apps.api.renders.MAX_KEPT", 1)
    before = stored(api, own.tenant)
    assert_refused(own.ask())
    assert own.client.get("/v1/renders").json() == {"renders": [], "next": None}
    assert stored(api, own.tenant) == before


def test_readiness_tells_maintenance_and_stays_ready(api, maintenance):
    maintenance.begin()
    assert api.client.get("/healthz").status_code == 200
    until(lambda: readiness(api) == (200, "maintenance"))
    maintenance.end()
    until(lambda: readiness(api) == (200, "ok"))


def readiness(api) -> tuple[int, str]:
    """What /readyz says; a busy machine may miss a service for a moment."""
    answer = api.client.get("/readyz")
    return answer.status_code, answer.json()["status"]
