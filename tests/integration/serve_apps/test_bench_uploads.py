"""The bench of uploads against a real API: it counts what was accepted, and sees refusals."""

import pytest

from serve_apps.bench.client import ApiClient
from serve_apps.bench.uploads import measure_uploads_elsewhere


@pytest.fixture
def lines():
    return []


def test_what_the_api_accepts_is_counted_and_cancelled_again(api, folder, lines):
    customers = [api.customer() for _ in range(2)]
    for customer in customers:
        api.register(customer.tenant, folder)
    found = measure_uploads_elsewhere(
        str(api.client.base_url), [each.key for each in customers], "anna", num_uploads=4, say=lines.append
    )
    assert (found["sent"], found["accepted"], lines) == (4, 4, [])
    assert 0 < found["accept_p50_ms"] <= found["accept_p99_ms"]
    for customer in customers:
        renders = customer.client.get("/v1/renders").json()["renders"]
        assert [render["status"] for render in renders] == ["cancelled"] * 2


def test_what_the_api_refuses_is_said(api, own, lines):
    for _ in range(4):  # the whole quota
        assert own.ask(0.2).status_code == 202
    url = str(api.client.base_url)
    found = measure_uploads_elsewhere(url, [own.key], "anna", num_uploads=2, say=lines.append)
    assert (found["accepted"], found["accept_p50_ms"]) == (0, None)
    assert len(lines) == 2
    assert all(line.startswith("not accepted: 429") for line in lines)


def test_a_client_says_what_it_was_answered(api, own):
    client = ApiClient(str(api.client.base_url), own.key, "nobody")
    answer = client.ask(b"no sound")
    client.close()
    assert (answer.status, answer.accepted, answer.body["status"]) == (404, False, 404)
