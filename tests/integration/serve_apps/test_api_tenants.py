"""No tenant sees, uses or learns of another's things, and nobody gets in without a valid key."""

from __future__ import annotations

import httpx
import pytest

from cluster.ids import RenderId
from serve_apps.api.ingress import create_api
from tests.support.serve import Api, Customer, assert_problem

ROUTES = {  # route -> the ids it takes; a test below fails when a route is missing here
    ("post", "/v1/renders"): "identity",
    ("get", "/v1/renders"): None,
    ("get", "/v1/renders/{render_id}"): "render",
    ("get", "/v1/renders/{render_id}/video"): "render",
    ("delete", "/v1/renders/{render_id}"): "render",
    ("get", "/v1/renders/{render_id}/events"): "render",
    ("post", "/v1/renders/{render_id}/retry"): "render",
    ("get", "/v1/identities"): None,
    ("post", "/v1/keys"): None,
    ("get", "/v1/keys"): None,
    ("get", "/v1/keys/{key_id}"): "key",
    ("post", "/v1/keys/{key_id}/rotate"): "key",
    ("delete", "/v1/keys/{key_id}"): "key",
    ("get", "/v1/audit"): None,
    ("post", "/v1/webhooks"): None,
    ("get", "/v1/webhooks"): None,
    ("get", "/v1/webhooks/{webhook_id}"): "webhook",
    ("delete", "/v1/webhooks/{webhook_id}"): "webhook",
    ("post", "/v1/webhooks/{webhook_id}/rotate"): "webhook",
    ("get", "/v1/webhooks/{webhook_id}/deliveries"): "webhook",
    ("get", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}"): "webhook",
    ("post", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay"): "webhook",
    ("get", "/v1/usage"): None,
    ("post", "/v1/tokens"): None,
    ("get", "/v1/tokens"): None,
    ("get", "/v1/tokens/{token_id}"): "token",
    ("delete", "/v1/tokens/{token_id}"): "token",
    ("get", "/v1/identities/{identity}"): "of-identity",
    ("delete", "/v1/identities/{identity}"): "of-identity",
    ("get", "/v1/identities/{identity}/versions"): "of-identity",
    ("get", "/v1/identities/{identity}/versions/{version}"): "of-identity",
    ("delete", "/v1/identities/{identity}/versions/{version}"): "of-identity",
    ("post", "/v1/identities/{identity}/versions/{version}/export"): "of-identity",
    ("get", "/v1/identities/{identity}/champion"): "of-identity",
    ("put", "/v1/identities/{identity}/champion"): "of-identity",
    ("get", "/v1/identities/{identity}/challenger"): "of-identity",
    ("put", "/v1/identities/{identity}/challenger"): "of-identity",
    ("delete", "/v1/identities/{identity}/challenger"): "of-identity",
    ("post", "/v1/identities/{identity}/rollback"): "of-identity",
    ("get", "/v1/identities/{identity}/champion/history"): "of-identity",
    ("post", "/v1/fits"): "recording",
    ("get", "/v1/fits"): None,
    ("get", "/v1/fits/{fit_id}"): "fit",
    ("delete", "/v1/fits/{fit_id}"): "fit",
    ("post", "/v1/fits/{fit_id}/resume"): "fit",
    ("get", "/v1/fits/{fit_id}/events"): "fit",
    ("post", "/v1/batches"): "recording",
    ("get", "/v1/batches"): None,
    ("get", "/v1/batches/{batch_id}"): "batch",
    ("delete", "/v1/batches/{batch_id}"): "batch",
    ("post", "/v1/batches/{batch_id}/pause"): "batch",
    ("post", "/v1/batches/{batch_id}/resume"): "batch",
    ("post", "/v1/recordings"): None,
    ("get", "/v1/recordings"): None,
    ("get", "/v1/recordings/{recording_id}"): "recording",
    ("get", "/v1/recordings/{recording_id}/parts"): "recording",
    ("post", "/v1/recordings/{recording_id}/complete"): "recording",
    ("delete", "/v1/recordings/{recording_id}"): "recording",
    ("get", "/healthz"): None,
    ("get", "/readyz"): None,
}
WEBHOOK = {"url": "https://hooks.example/"}
RECORDING = {"name": "anna.mp4", "num_bytes": 10, "sha256": "0" * 64}


def test_the_matrix_covers_every_route():
    paths = create_api(None).openapi()["paths"]
    assert {(method, path) for path, operations in paths.items() for method in operations} == set(ROUTES)


def comparable(answer: httpx.Response) -> tuple:
    counting = ("date", "server", "ratelimit")  # what is left of a rate is less with every answer
    headers = {k: v for k, v in answer.headers.items() if k not in counting}
    return answer.status_code, answer.content, headers


def about_identities(owner: Customer, other: Customer, method: str, path: str) -> list[httpx.Response]:
    """A route asked for identities and versions that are not the asking tenant's."""
    names = ["anna", "nobody", "Anna", f"{owner.tenant}.anna", "anna@1", "%00", "a" * 41]
    versions = ("1", "2", "01", "x") if "{version}" in path else ("",)
    body = {"json": {"version": 1}} if method == "put" else {}
    paths = [path.replace("{identity}", name).replace("{version}", number) for name in names for number in versions]
    return [other.client.request(method, each, headers={"If-Match": "*"}, **body) for each in paths]


MADE_UP = ["r-" + "0" * 32, "r-x", "f-" + "0" * 32, "..", "%2e%2e", "r-%00", "ü" * 50]
HOLE = "serve_multiplexed_model_id"  # the header by which Ray Serve routes


def about_keys(api: Api, owner: Customer, other: Customer, method: str, path: str) -> list[httpx.Response]:
    """A route asked for an API key that is not the asking tenant's."""
    key_ids = [info.key_id for info in api.services.state.accounts.list_api_keys(owner.tenant)]
    return in_both_ways(owner, other, method, path, "{key_id}", [*key_ids, *MADE_UP[:3], "0" * 12])


def about_tokens(owner: Customer, other: Customer, method: str, path: str) -> list[httpx.Response]:
    """A route asked for a client token that is not the asking tenant's."""
    token = {"identity": "anna", "origin": "https://app.example.com"}
    token_id = owner.client.post("/v1/tokens", json=token).json()["id"]
    return in_both_ways(owner, other, method, path, "{token_id}", [token_id, *MADE_UP[:3], "0" * 12])


def about_new_renders(owner: Customer, other: Customer) -> list[httpx.Response]:
    """A render of an identity that is not the asking tenant's."""
    foreign = f"{owner.tenant}.anna"
    names = ["anna", "anna@1", foreign, f"{foreign}@1", f"{foreign}@champion", "nobody", "x.y@3"]
    return [other.ask(identity=name, headers=headers) for name in names for headers in ({}, hole_to(owner))]


def in_both_ways(
    owner: Customer, other: Customer, method: str, path: str, name: str, texts: list[str]
) -> list[httpx.Response]:
    """A route asked for ids, each also with a header that names the owner's identity."""
    return [
        other.client.request(method, path.replace(name, text), headers=headers)
        for text in texts
        for headers in ({}, hole_to(owner))
    ]


def hole_to(owner: Customer) -> dict[str, str]:
    """A header that names an identity of the owner."""
    return {HOLE: f"{owner.tenant}.anna@1"}


def about_recordings(owner: Customer, other: Customer, method: str, path: str) -> list[httpx.Response]:
    """A route asked for a recording that is not the asking tenant's."""
    recording = owner.client.post("/v1/recordings", json=RECORDING).json()["id"]
    ids = (recording, recording.upper(), "rec-" + "0" * 32, "rec-x", "%00", "r-" + "0" * 32)
    if "{" not in path:
        items = [{"identity": "anna", "recording": text} for text in ids]
        bodies = [{"kind": "fit", "items": [item]} for item in items] if path.endswith("/batches") else items
        return [other.client.post(path, json=body) for body in bodies]
    return [other.client.request(method, path.replace("{recording_id}", text)) for text in ids]


def about_batches(owner: Customer, other: Customer, method: str, path: str) -> list[httpx.Response]:
    """A route asked for a batch that is not the asking tenant's."""
    wish = {"kind": "judge", "items": [{"identity": "anna"}]}
    batch = owner.client.post("/v1/batches", json=wish, headers={"Idempotency-Key": "matrix"}).json()["id"]
    return in_both_ways(owner, other, method, path, "{batch_id}", [batch, batch.upper(), "b-" + "0" * 32, *MADE_UP[:3]])


def about_webhooks(owner: Customer, other: Customer, method: str, path: str) -> list[httpx.Response]:
    """A route asked for a webhook, or what it was told, that is not the asking tenant's."""
    hook = owner.client.post("/v1/webhooks", json=WEBHOOK).json()["id"]
    owner.client.delete(f"/v1/renders/{owner.ask().json()['id']}")
    (told,) = owner.client.get(f"/v1/webhooks/{hook}/deliveries").json()["deliveries"]
    mine = other.client.post("/v1/webhooks", json=WEBHOOK, headers={"Idempotency-Key": "mine"}).json()["id"]
    hooks = [hook, hook.upper(), *MADE_UP[:3]] if "{delivery_id}" not in path else [hook, mine]
    names = [told["id"], told["id"][:-1] + "2", "dl-x", *MADE_UP[:2]] if "{delivery_id}" in path else [""]
    paths = [path.replace("{webhook_id}", each).replace("{delivery_id}", name) for each in hooks for name in names]
    answers = [other.client.request(method, each) for each in paths]
    owner.client.delete(f"/v1/webhooks/{hook}")
    return answers


def about_fits(api: Api, owner: Customer, other: Customer, method: str, path: str) -> list[httpx.Response]:
    """A route asked for a fit that is not the asking tenant's."""
    fit_id = str(api.services.state.jobs.create(owner.tenant, "fit", {})[0].id)
    ids = (fit_id, fit_id.upper(), "f-" + "0" * 32, "f-x", "%00", "r-" + "0" * 32)
    return [other.client.request(method, path.replace("{fit_id}", text)) for text in ids]


def test_another_tenants_ids_answer_exactly_like_unknown_ones(api, folder):
    owner, other = api.customer(), api.customer()
    api.register(owner.tenant, folder)
    queued, running, cancelled = (owner.ask().json()["id"] for _ in range(3))
    owner.client.delete(f"/v1/renders/{cancelled}")
    api.services.state.jobs.claim("render", worker="t", lease_s=60, tenant=owner.tenant, job_id=RenderId.parse(running))
    other.client.headers["X-Request-Id"] = "a" * 32  # the one thing that differs between any two answers
    num_checked = 0
    for (method, path), kind in ROUTES.items():
        if kind == "render":
            ids = [queued, running, cancelled, *MADE_UP[:3], queued.upper()]
            answers = in_both_ways(owner, other, method, path, "{render_id}", ids)
            expected = "unknown-render"
        elif kind == "identity":
            answers, expected = about_new_renders(owner, other), "unknown-identity"
        elif kind == "key":
            answers, expected = about_keys(api, owner, other, method, path), "unknown-key"
        elif kind == "token":
            answers, expected = about_tokens(owner, other, method, path), "unknown-token"
        elif kind == "webhook":
            answers, expected = about_webhooks(owner, other, method, path), "unknown-webhook"
        elif kind == "recording":
            answers, expected = about_recordings(owner, other, method, path), "unknown-recording"
        elif kind == "fit":
            answers, expected = about_fits(api, owner, other, method, path), "unknown-fit"
        elif kind == "batch":
            answers, expected = about_batches(owner, other, method, path), "unknown-batch"
        elif kind == "of-identity":
            answers, expected = about_identities(owner, other, method, path), "unknown-identity"
        else:
            continue
        for answer in answers:
            assert_problem(answer, 404, expected)
        assert len({repr(comparable(answer)) for answer in answers}) == 1
        num_checked += len(answers)
    assert num_checked > 100
    assert owner.client.get("/v1/identities/anna").json()["champion"] == 1
    for text in (
        *MADE_UP,
        queued.upper(),
    ):  # some never reach the route; whatever answers says no more than "not found"
        assert other.client.get(f"/v1/renders/{text}").status_code == 404
    assert other.client.get("/v1/renders").json() == {"renders": [], "next": None}
    assert len(other.client.get("/v1/keys").json()["keys"]) == len(owner.client.get("/v1/keys").json()["keys"]) == 1
    assert other.client.get("/v1/identities").json() == {"identities": [], "next": None}
    states = {name: owner.client.get(f"/v1/renders/{name}").json()["status"] for name in (queued, running, cancelled)}
    assert states == {queued: "queued", running: "queued", cancelled: "cancelled"}  # nobody has begun the claimed one


def test_a_cursor_or_the_bytes_of_another_tenant_lead_nowhere(api):
    owner, other = api.customer(), api.customer()
    ids = [owner.client.post("/v1/recordings", json=RECORDING).json()["id"] for _ in range(2)]
    assert ids[0] == ids[1]  # the same bytes
    after = owner.client.get("/v1/recordings", params={"limit": 1}).json()["next"]
    for query in ({}, {"after": after}):
        assert other.client.get("/v1/recordings", params=query).json() == {"recordings": [], "next": None}
    assert other.client.post("/v1/recordings", json=RECORDING).json()["id"] not in ids
    assert owner.client.get(f"/v1/recordings/{ids[0]}").json()["state"] == "uploading"


def test_usage_is_of_the_asking_tenant_whatever_its_cursor_and_identity(api, own):
    other, jobs = api.customer(), api.services.state.jobs
    for _ in range(2):
        job = jobs.create(own.tenant, "render", {"ref": f"{own.tenant}.anna@1"})[0]
        jobs.finish(jobs.claim("render", worker="t", lease_s=60, tenant=own.tenant, job_id=job.id), {})
    (row,) = own.client.get("/v1/usage").json()["usage"]
    assert row["num_renders"] == 2
    for query in ({}, {"identity": "anna"}, {"after": "1."}, {"after": "1.anna", "identity": "anna"}):
        assert other.client.get("/v1/usage", params=query).json() == {"usage": [], "next": None}


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
