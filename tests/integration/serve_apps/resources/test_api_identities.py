"""Identities, versions and champions over HTTP: what serves is read, moved and rolled back there."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import threading

import httpx
import pytest

from cluster.ids import IdentityName, ModelRef, TenantId
from m2dao.identity.checkpoint import load_identity
from serve_apps.api.waiting.turns import Turns
from serve_apps.problems import ApiProblem
from tests.support.serve import Api, Customer, assert_problem, probing
from tests.support.small_work import SPEAKS

CHAMPION = "/v1/identities/anna/champion"
ROLLBACK = "/v1/identities/anna/rollback"


@pytest.fixture(scope="module", autouse=True)
def prober(api: Api, tmp_path_factory):
    with probing(api.platform, tmp_path_factory.mktemp("disk")):
        yield


@pytest.fixture
def register(api: Api, own: Customer, folder):
    """Registers one more version of the tenant's anna."""

    def make(psnr_db: float = 31.0) -> ModelRef:
        metrics = {"psnr_db": psnr_db, "sync_confidence": 0.6, **SPEAKS}
        tags = {"recipe": "m2dao", "capture_sha256": "a" * 64}
        return api.platform.registry.register_version(
            own.tenant, IdentityName("anna"), folder, metrics=metrics, tags=tags
        )

    return make


def put(own: Customer, version: int, if_match: str | None, **body):
    headers = {} if if_match is None else {"If-Match": if_match}
    return own.client.put(CHAMPION, json={"version": version, **body}, headers=headers)


def test_an_identity_tells_what_stands_for_it(own, register):
    register()
    assert own.client.get("/v1/identities/anna").json() == {
        "identity": "anna",
        "champion": 1,
        "previous": None,
        "challenger": None,
        "versions": [1, 2],
    }


def test_versions_come_in_pages_with_lineage_and_metrics(own, register):
    for psnr_db in (31.0, 32.0):
        register(psnr_db)
    first = own.client.get("/v1/identities/anna/versions", params={"limit": 2}).json()
    assert [version["version"] for version in first["versions"]] == [3, 2]
    newest = first["versions"][0]
    assert newest["lineage"] == {"recipe": "m2dao", "capture_sha256": "a" * 64}
    assert newest["metrics"]["psnr_db"] == 32.0
    assert newest["aliases"] == []
    assert newest["gate"] is None
    assert newest["fit"].startswith("f-")
    assert newest["created_at"] is not None
    rest = own.client.get("/v1/identities/anna/versions", params={"limit": 2, "after": first["next"]}).json()
    assert [version["version"] for version in rest["versions"]] == [1]
    assert rest["versions"][0]["aliases"] == ["champion"]
    assert rest["next"] is None
    assert own.client.get("/v1/identities/anna/versions/3").json() == newest


def test_a_promotion_names_the_champion_it_has_seen_and_leaves_a_report(own, register):
    register()
    seen = own.client.get(CHAMPION)
    assert seen.json() == {"version": 1, "previous": None, "challenger": None, "epoch": 1}
    assert seen.headers["etag"] == '"1"'
    assert_problem(put(own, 2, None), 428, "precondition-required")
    moved = put(own, 2, seen.headers["etag"])
    assert moved.status_code == 200, moved.text
    assert moved.json() == {"version": 2, "previous": 1, "challenger": None, "epoch": 2}
    assert moved.headers["etag"] == own.client.head(CHAMPION).headers["etag"] == '"2"'
    report = own.client.get("/v1/identities/anna/versions/2").json()["gate"]
    assert report["verdict"] == "passed"
    checks = {check["name"]: (check["passed"], check["value"], check["limit"]) for check in report["checks"]}
    assert checks["psnr_db"] == (True, 31.0, 25.0)
    assert checks["probe"] == (True, None, None)


@pytest.mark.parametrize("stale", ['"0"', '"99"', "1", 'W/"1"', "nonsense"])
def test_a_promotion_that_has_seen_another_champion_moves_nothing(own, register, stale):
    register()
    assert_problem(put(own, 2, stale), 412, "promotion-conflict")
    assert own.client.get(CHAMPION).headers["etag"] == '"1"'


def test_of_promotions_that_race_from_the_same_champion_one_moves_it(own, register):
    refs = [register() for _ in range(2)]
    seen, answers, start = own.client.get(CHAMPION).headers["etag"], {}, threading.Barrier(2)

    def promote(ref: ModelRef) -> None:
        start.wait()
        answers[ref] = put(own, ref.version, seen).status_code

    threads = [threading.Thread(target=promote, args=(ref,)) for ref in refs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers.values()) == [200, 412]
    (winner,) = (ref for ref, status in answers.items() if status == 200)
    assert own.client.get(CHAMPION).json()["version"] == winner.version


def test_a_version_that_the_gate_refuses_serves_by_force_only(own, register):
    register(5.0)
    told = assert_problem(put(own, 2, "*"), 409, "promotion-refused")
    assert "psnr_db 5 dB below 25.00 dB" in told["detail"]
    assert own.client.get("/v1/identities/anna/versions/2").json()["gate"]["verdict"] == "refused"
    assert own.client.get(CHAMPION).json()["version"] == 1
    assert put(own, 2, "*", force=True).json()["version"] == 2
    assert own.client.get("/v1/identities/anna/versions/2").json()["gate"]["verdict"] == "forced"


def test_one_call_rolls_back_and_the_history_tells(own, register):
    register()
    put(own, 2, "*")
    back = own.client.post(ROLLBACK)
    assert back.json() == {"version": 1, "previous": 2, "challenger": None, "epoch": 3}
    assert back.headers["etag"] == '"3"'
    moves = own.client.get(f"{CHAMPION}/history").json()["moves"]
    assert [(move["what"], move["before"], move["version"], move["epoch"]) for move in moves] == [
        ("roll_back", 2, 1, 3),
        ("promote", 1, 2, 2),
        ("promote", None, 1, 1),
    ]


def test_a_rollback_under_a_key_happens_once(own, register):
    register()
    put(own, 2, "*")
    for _ in range(3):
        answer = own.client.post(ROLLBACK, headers={"Idempotency-Key": "back-1"})
        assert answer.json()["version"] == 1
    assert own.client.post(ROLLBACK, headers={"Idempotency-Key": "back-2"}).json()["version"] == 2


def test_a_rollback_that_has_seen_another_champion_moves_nothing(own, register):
    register()
    put(own, 2, "*")
    assert_problem(own.client.post(ROLLBACK, headers={"If-Match": '"1"'}), 412, "promotion-conflict")
    assert own.client.get(CHAMPION).json()["version"] == 2


def test_a_rollback_without_a_previous_champion_says_so(own):
    told = assert_problem(own.client.post(ROLLBACK), 409, "conflict")
    assert "previous champion" in told["detail"]
    assert_problem(own.client.post(ROLLBACK.replace("anna", "ben")), 404, "unknown-identity")


def test_a_promotion_of_the_champion_changes_nothing(own):
    assert put(own, 1, "*", force=True).json()["epoch"] == 1
    assert len(own.client.get(f"{CHAMPION}/history").json()["moves"]) == 1
    acts = own.client.get("/v1/audit").json()["entries"]
    assert [act["what"] for act in acts].count("promote") == 1


def test_a_promotion_and_a_rollback_answer_what_they_did_whoever_moves_next(own, api, register, monkeypatch):
    register()
    table = api.services.platform.state.champions
    move = type(table)._move

    def overtaken(self, what, tenant, identity, version, *rest, **more):
        change = move(self, what, tenant, identity, version, *rest, **more)
        move(self, "promote", tenant, identity, 1 if what == "promote" else 2, None, "")
        return change

    monkeypatch.setattr(type(table), "_move", overtaken)
    assert put(own, 2, "*").json() == {"version": 2, "previous": 1, "challenger": None, "epoch": 2}
    assert own.client.post(ROLLBACK).json() == {"version": 2, "previous": 1, "challenger": None, "epoch": 4}


def test_a_challenger_gets_its_share_of_renders_by_the_key_of_the_request(own, register):
    register()
    path = "/v1/identities/anna/challenger"
    assert_problem(own.client.put(path, json={"version": 2}), 428, "precondition-required")
    assert_problem(own.client.put(path, json={"version": 2}, headers={"If-Match": '"7"'}), 412, "promotion-conflict")
    assert_problem(own.client.put(path, json={"version": 1}, headers={"If-Match": "*"}), 409, "conflict")
    assert_problem(
        own.client.put(path, json={"version": 2, "share": 101}, headers={"If-Match": "*"}), 422, "invalid-request"
    )
    answer = own.client.put(path, json={"version": 2, "share": 50}, headers={"If-Match": '"1"'})
    told = {"version": 2, "share": 50, "champion": 1, "epoch": 2, "outcomes": []}
    assert answer.json() == told == own.client.get(path).json()
    assert answer.headers["etag"] == '"2"'
    assert own.client.get("/v1/identities/anna/versions/2").json()["gate"]["verdict"] == "passed"
    keys = {1: "order-1", 2: "order-3"}  # crc32 % 100: 79, 3
    for version, key in keys.items():
        for _ in range(2):
            render = own.ask(headers={"Idempotency-Key": key}).json()
            assert render["version"] == version
        assert own.client.delete(f"/v1/renders/{render['id']}").status_code == 200
    pinned = own.ask(identity="anna@champion", headers={"Idempotency-Key": "order-3b"}).json()
    assert pinned["version"] == 1
    gone = own.client.delete(path, headers={"If-Match": '"2"'})
    assert gone.json() == {"version": None, "share": 0, "champion": 1, "epoch": 3, "outcomes": []}
    assert own.client.delete(path).json()["epoch"] == 3  # there was none


def test_a_challenger_that_the_gate_refuses_gets_no_renders(own, register):
    register(5.0)
    path = "/v1/identities/anna/challenger"
    told = own.client.put(path, json={"version": 2}, headers={"If-Match": "*"})
    assert_problem(told, 409, "promotion-refused")
    assert own.client.get(path).json()["version"] is None
    assert own.client.put(path, json={"version": 2, "force": True}, headers={"If-Match": "*"}).json()["version"] == 2


def test_a_version_is_exported_as_a_tar_that_loads_elsewhere(own, api, register, tmp_path):
    ref = register()
    told = own.client.post("/v1/identities/anna/versions/2/export").json()
    assert told["name"] == "anna-2.tar"
    packed = httpx.get(told["url"], trust_env=False).content
    assert len(packed) == told["num_bytes"]
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(tmp_path, filter="data")
    about = json.loads((tmp_path / "anna-2" / "version.json").read_text())
    assert (about["lineage"]["recipe"], about["metrics"]["psnr_db"]) == ("m2dao", 31.0)
    assert load_identity(tmp_path / "anna-2").manifest is not None
    assert own.client.post("/v1/identities/anna/versions/2/export").json()["num_bytes"] == told["num_bytes"]
    assert own.client.delete("/v1/identities/anna/versions/2").status_code == 204
    assert list(api.services.store.list(ref.object_prefix)) == []
    assert_problem(own.client.post("/v1/identities/anna/versions/2/export"), 404, "unknown-identity")


def test_a_version_without_an_alias_is_deleted_and_one_with_stays(own, api, register):
    ref = register()
    assert_problem(own.client.delete("/v1/identities/anna/versions/1"), 409, "conflict")
    assert own.client.delete("/v1/identities/anna/versions/2").status_code == 204
    assert_problem(own.client.delete("/v1/identities/anna/versions/2"), 404, "unknown-identity")
    assert own.client.get("/v1/identities/anna").json()["versions"] == [1]
    assert list(api.services.store.list(ref.object_prefix)) == []


def test_a_deleted_identity_serves_no_more_and_leaves_no_files(own, api, register):
    register()
    assert own.client.delete("/v1/identities/anna").status_code == 204
    assert_problem(own.client.get("/v1/identities/anna"), 404, "unknown-identity")
    assert_problem(own.client.delete("/v1/identities/anna"), 404, "unknown-identity")
    assert_problem(own.ask(), 404, "unknown-identity")
    assert list(api.services.store.list(f"{own.tenant}/identities/anna/")) == []


@pytest.mark.parametrize("body", [{}, {"version": 0}, {"version": "x"}, {"version": 1, "more": 1}, [], None])
def test_a_promotion_of_nothing_is_refused(own, body):
    assert_problem(own.client.put(CHAMPION, json=body, headers={"If-Match": "*"}), 422, "invalid-request")


def test_actions_of_one_tenant_leave_room_for_another():
    one, other, go_on = TenantId("one"), TenantId("other"), threading.Event()

    async def main() -> None:
        turns = Turns(num_threads=2, per_tenant=1)
        first = asyncio.create_task(turns.run(one, go_on.wait))
        await asyncio.sleep(0)  # it has begun
        with pytest.raises(ApiProblem, match="at most 1"):
            await turns.run(one, print)
        assert await turns.run(other, int, "7") == 7
        go_on.set()
        assert await first
        assert await turns.run(one, int, "8") == 8  # its turn is free again

    asyncio.run(main())
