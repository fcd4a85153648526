"""What all routes have in common: queries that are checked, and headers about the rate."""

from __future__ import annotations

import re

import pytest

from cluster.settings import ServeConfig
from serve_apps.api.ingress import create_api
from tests.support.serve import api_over, assert_problem

PLACES = {
    "identity": "anna",
    "version": "1",
    "delivery_id": "dl-" + "0" * 32 + "-1",
    "webhook_id": "wh-" + "0" * 32,
    "recording_id": "rec-" + "0" * 32,
    "fit_id": "f-" + "0" * 32,
}
ROUTES = [
    (method, path)
    for path, operations in create_api(None).openapi()["paths"].items()
    for method in operations
    if path.startswith("/v1")
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_refuses_a_parameter_that_it_has_not_and_tells_the_rate(api, anna, method, path):
    path = re.sub(r"{(\w+)}", lambda found: PLACES.get(found[1], "r-" + "0" * 32), path)
    answer = anna.client.request(method, f"{path}?of_nobody=1")
    problem = assert_problem(answer, 422, "invalid-request")
    assert problem["errors"] == [{"field": "query.of_nobody", "detail": "no such parameter"}]
    assert answer.headers["ratelimit-policy"].startswith('"requests";q=')
    assert_problem(api.client.request(method, f"{path}?of_nobody=1"), 401, "missing-credentials")


@pytest.fixture(scope="module")
def slow(stack):
    """An API at which a tenant may ask twenty times at once, and then every ten seconds."""
    with api_over(stack, ServeConfig(request_rate=0.1, request_burst=20)) as api:
        yield api


def test_each_answer_tells_what_is_left_of_the_rate_and_when_it_is_whole_again(slow):
    customer = slow.customer()
    link, bucket = slow.services.state._link, f"{customer.tenant}:rate:requests"
    stopped = int(link.call("TIME")[0]) + 10**6  # nothing comes back meanwhile, however slow the test is
    for tokens, expected in ((20, (200, 19, 10)), (1.5, (200, 0, 195)), (0.5, (429, 0, 195)), (-20, (429, 0, 200))):
        link.call("HSET", bucket, "tokens", tokens, "at", stopped)
        answer = customer.client.get("/v1/renders")
        found = re.fullmatch(r'"requests";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
        assert (answer.status_code, int(found[1]), int(found[2])) == expected
        assert answer.headers["ratelimit-policy"] == '"requests";q=20;w=200'
        assert ("retry-after" in answer.headers) == (answer.status_code == 429)


def test_what_nobody_knows_the_tenant_of_tells_no_rate(api):
    for path in ("/v1/renders", "/healthz", "/nowhere"):
        assert "ratelimit" not in api.client.get(path).headers


def test_every_refusal_for_a_limit_says_when_to_come_again(own):
    wish = {"name": "a.mp4", "num_bytes": 10**9, "sha256": "0" * 64}
    answers = [own.client.post("/v1/recordings", json={**wish, "sha256": f"{n:064d}"}) for n in range(17)]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_a_refused_upload_leaves_its_place(api, own):
    for _ in range(6):  # more than a tenant may have at once
        assert own.client.post("/v1/renders?of_nobody=1", files={"audio": b"x"}).status_code == 422
    assert own.ask(0.2).status_code == 202
