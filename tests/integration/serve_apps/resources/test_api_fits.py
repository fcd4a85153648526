"""Fits over HTTP: asked for once, followed, cancelled and resumed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator

import httpx
import pytest

from cluster.control.fit_requests import FitRequest
from cluster.ids import FitId, TenantId
from cluster.state.link import AsyncRedisLink
from cluster.state.problems import Problem
from cluster.state.records import Claim
from cluster.state.resources.recordings import RoomFor
from m2dao.errors import LeaseLost, UnknownRecording
from serve_apps.api.waiting.job_changes import JobChanges
from serve_apps.problems import ApiProblem
from tests.support.serve import Api, Customer, assert_problem

FITS = "/v1/fits"
SHA256 = "a" * 64


@pytest.fixture
def own(api: Api) -> Customer:
    return api.customer()


@pytest.fixture
def recording(api: Api, own: Customer) -> str:
    """A recording that is ready, without its bytes."""
    return ready_recording(api, own.tenant)


def ready_recording(api: Api, tenant: TenantId, sha256: str = SHA256) -> str:
    table, room = api.services.state.recordings, RoomFor(num_bytes=100, num_uploads=5, upload_s=60)
    record = table.create(tenant, name="anna.mp4", num_bytes=9, sha256=sha256, room=room)
    table.to_ready(table.to_moving(table.to_checking(record), {}), keep_s=3600)
    return str(record.id)


def order(own: Customer, recording: str, *, key: str | None = None, **changes) -> httpx.Response:
    body = {"identity": "anna", "recording": recording, **changes}
    return own.client.post(FITS, json=body, headers={} if key is None else {"Idempotency-Key": key})


def claim(api: Api, own: Customer, fit_id: str) -> Claim:
    """What a worker of the cluster does."""
    found = api.services.state.jobs.claim("fit", worker="w", lease_s=60, tenant=own.tenant, job_id=FitId.parse(fit_id))
    assert found is not None
    return found


def result(own: Customer) -> dict:
    promotion = {"promoted": False, "detail": "psnr_db 5 dB below 25.00 dB"}
    return {"ref": f"{own.tenant}.anna@7", "metrics": {"psnr_db": 5.0}, "promotion": promotion}


def test_a_fit_is_queued_as_the_command_queues_it(api, own, recording):
    answer = order(own, recording, quality="quick", size=128, promote=True, consent="release 7")
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"{FITS}/{body['id']}"
    assert (body["status"], body["stage"], body["minutes"], body["size"]) == ("queued", "queued", 2.0, 128)
    request = FitRequest.of(api.services.state.jobs.get(own.tenant, FitId.parse(body["id"])))
    assert (request.recording_sha256, request.recording_name, request.promote) == (SHA256, "anna.mp4", True)
    assert request.consent == "release 7"
    assert request.recording_key(own.tenant) == f"{own.tenant}/recordings/{SHA256}"
    assert own.client.get(f"{FITS}/{body['id']}").json() == body


def test_the_same_fit_asked_twice_is_one_fit(own, recording):
    first = order(own, recording).json()
    assert order(own, recording).json()["id"] == first["id"]
    assert order(own, recording, key="order-1").json()["id"] == first["id"]
    assert order(own, recording, seed=1).json()["id"] != first["id"]


def test_parallel_orders_under_one_key_are_one_fit_and_another_body_is_refused(api, own, recording):
    ids, start = [], threading.Barrier(6)

    def ask() -> None:
        start.wait()
        ids.append(order(own, recording, key="order-1").json()["id"])

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 6
    assert len(set(ids)) == 1
    assert_problem(order(own, recording, key="order-1", size=64), 422, "idempotency-conflict")
    jobs = api.services.state.jobs
    jobs.finish(claim(api, own, ids[0]), result(own))
    assert order(own, recording, key="order-1").json()["id"] == ids[0]  # also once it has ended
    assert order(own, recording).json()["id"] != ids[0]  # it made no version that is there


def test_a_fit_that_is_done_is_asked_for_again_by_a_new_key_only(api, own, recording, folder):
    first = order(own, recording).json()["id"]
    ref = api.register(own.tenant, folder, name="ben")
    api.services.state.jobs.finish(claim(api, own, first), {**result(own), "ref": str(ref)})
    for _ in range(2):
        assert order(own, recording).json()["id"] == first
    again = order(own, recording, key="once-more").json()["id"]
    assert again != first
    own.client.delete(f"{FITS}/{again}")
    api.platform.registry.delete_identity(own.tenant, ref.identity)
    assert order(own, recording).json()["id"] not in (first, again)  # its version is gone


def test_progress_result_and_time_left_are_told(api, own, recording):
    fit_id = order(own, recording, minutes=10).json()["id"]
    jobs, held = api.services.state.jobs, claim(api, own, fit_id)
    jobs.heartbeat(held, lease_s=60, progress=0.53, stage="fit: step 200, face, loss 0.1000, 31.0 dB")
    body = own.client.get(f"{FITS}/{fit_id}").json()
    assert (body["status"], body["stage"], body["progress"]) == ("running", "fit", 0.53)
    assert body["detail"] == "step 200, face, loss 0.1000, 31.0 dB"
    assert body["time_left_s"] == 300.0
    jobs.finish(held, result(own))
    body = own.client.get(f"{FITS}/{fit_id}").json()
    assert body["result"] == {
        "version": 7,
        "metrics": {"psnr_db": 5.0},
        "promoted": False,
        "detail": "psnr_db 5 dB below 25.00 dB",
    }


def test_live_figures_and_pictures_are_told_with_links_that_work(api, own, recording):
    fit_id = order(own, recording, priority="high").json()["id"]
    held = claim(api, own, fit_id)
    key = FitRequest.of(held.job).picture_key(held.job, "strip.jpg")
    api.services.store.put_bytes(key, b"picture", content_type="image/jpeg")
    figures = {"metrics": {"step": 7.0, "loss": 0.5}, "pictures": {"strip.jpg": 1.0e9}}
    api.services.state.figures.note(held, figures)
    body = own.client.get(f"{FITS}/{fit_id}").json()
    assert (body["metrics"], body["priority"]) == ({"step": 7.0, "loss": 0.5}, "high")
    (picture,) = body["pictures"]
    assert (picture["name"], picture["updated_at"]) == ("strip.jpg", "2001-09-09T01:46:40Z")
    assert httpx.get(picture["url"], trust_env=False).content == b"picture"
    assert own.client.get(FITS).json()["fits"][0]["pictures"] == []
    api.services.state.jobs.finish(held, result(own))
    with pytest.raises(LeaseLost):
        api.services.state.figures.note(held, figures)
    api.services.state.jobs.cancel(own.tenant, FitId.parse(order(own, recording, seed=9).json()["id"]))


@pytest.mark.parametrize("named", [{}, {"recordings": ["a", "b"]}, {"recording": "a", "recordings": ["a"]}])
def test_a_fit_is_from_exactly_one_recording(own, recording, named):
    told = assert_problem(own.client.post(FITS, json={"identity": "anna", **named}), 422, "invalid-request")
    assert "exactly one recording" in told["detail"]
    assert own.client.post(FITS, json={"identity": "anna", "recordings": [recording]}).status_code == 202


def test_a_failure_is_told_without_our_folders_and_faults(api, own, recording):
    jobs = api.services.state.jobs
    told = {}
    for code in ("recording-rejected", "internal-error"):
        fit_id = order(own, recording, seed=len(told)).json()["id"]
        problem = Problem(code=code, title="An error", detail="/srv/secret/recording.mp4: M2DAO_HOME is full")
        jobs.fail(claim(api, own, fit_id), problem)
        told[code] = own.client.get(f"{FITS}/{fit_id}").json()["error"]
    assert told["recording-rejected"]["detail"] == "recording.mp4: a setting is full"
    assert told["internal-error"]["status"] == 500
    assert "secret" not in json.dumps(told)
    assert "M2DAO" not in json.dumps(told)


def test_a_fit_is_cancelled_and_resumed_under_another_id(api, own, recording):
    fit_id = order(own, recording).json()["id"]
    path = f"{FITS}/{fit_id}"
    assert own.client.post(f"{path}/resume").json()["id"] == fit_id  # it is open: it goes on by itself
    for _ in range(2):
        assert own.client.delete(path).json()["status"] == "cancelled"
    again = own.client.post(f"{path}/resume")
    assert again.status_code == 202
    assert again.headers["location"] == f"{FITS}/{again.json()['id']}"
    assert again.json()["id"] != fit_id
    assert own.client.post(f"{path}/resume").json()["id"] == again.json()["id"]
    job = api.services.state.jobs.get(own.tenant, FitId.parse(again.json()["id"]))
    assert job.request["steps_of"] == fit_id
    api.services.state.jobs.finish(claim(api, own, str(job.id)), result(own))
    assert_problem(own.client.delete(f"{FITS}/{job.id}"), 409, "conflict")
    assert_problem(own.client.post(f"{FITS}/{job.id}/resume"), 409, "conflict")


def test_fits_are_listed_by_state_and_person_in_pages(own, recording):
    anna = [order(own, recording, seed=seed).json()["id"] for seed in range(3)]
    ben = order(own, recording, identity="ben").json()["id"]
    own.client.delete(f"{FITS}/{anna[0]}")

    def ids(**query) -> list[str]:
        return [fit["id"] for fit in own.client.get(FITS, params=query).json()["fits"]]

    assert ids() == [ben, *anna[::-1]]
    assert ids(status="cancelled") == [anna[0]]
    assert ids(identity="ben") == [ben]
    assert ids(identity="ben", status="cancelled") == []
    first = own.client.get(FITS, params={"limit": 3}).json()
    rest = own.client.get(FITS, params={"limit": 3, "after": first["next"]}).json()
    assert [fit["id"] for fit in (*first["fits"], *rest["fits"])] == [ben, *anna[::-1]]
    assert rest["next"] is None


def test_a_fit_needs_a_recording_that_is_ready(api, own):
    table, room = api.services.state.recordings, RoomFor(num_bytes=100, num_uploads=5, upload_s=60)
    record = table.create(own.tenant, name="a", num_bytes=9, sha256="b" * 64, room=room)
    assert_problem(order(own, str(record.id)), 409, "conflict")
    table.to_deleting(record)
    with pytest.raises(UnknownRecording):
        table.get(own.tenant, record.id)
    assert_problem(order(own, str(record.id)), 404, "unknown-recording")


def test_few_fits_are_open_at_once_and_none_too_long(api, own, recording):
    limits = api.platform.settings.fit
    for seed in range(limits.max_open):
        assert order(own, recording, seed=seed).status_code == 202
    answer = order(own, recording, seed=limits.max_open)
    assert_problem(answer, 429, "too-many-fits")
    assert int(answer.headers["retry-after"]) > 0
    told = assert_problem(order(own, recording, minutes=limits.max_minutes + 1), 422, "invalid-request")
    assert told["errors"] == [{"field": "body.minutes", "detail": f"at most {limits.max_minutes:g}"}]


@pytest.mark.parametrize(
    "wrong",
    [{"identity": "Anna"}, {"size": 100}, {"minutes": 0}, {"quality": "x"}, {"recipe": "../x"}, {"consent": ""}],
)
def test_an_order_that_makes_no_sense_is_refused(own, recording, wrong):
    assert_problem(order(own, recording, **wrong), 422, "invalid-request")


def changes_of(answer: httpx.Response) -> Iterator[dict]:
    """The fits that an event stream shows."""
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_changes_are_streamed_until_the_fit_ends(api, own, recording):
    fit_id = order(own, recording).json()["id"]
    jobs = api.services.state.jobs
    with own.client.stream("GET", f"{FITS}/{fit_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        changes = changes_of(answer)
        assert next(changes)["status"] == "queued"
        held = claim(api, own, fit_id)
        assert next(changes)["status"] == "running"
        jobs.heartbeat(held, lease_s=60, progress=0.3, stage="fit")
        assert next(changes)["progress"] == 0.3
        jobs.finish(held, result(own))
        assert [change["status"] for change in changes] == ["done"]


def test_a_head_of_a_stream_ends_at_once_and_an_ended_fit_is_told_once(own, recording):
    fit_id = order(own, recording).json()["id"]
    assert own.client.head(f"{FITS}/{fit_id}/events").status_code == 200
    own.client.delete(f"{FITS}/{fit_id}")
    with own.client.stream("GET", f"{FITS}/{fit_id}/events") as answer:
        assert [change["status"] for change in changes_of(answer)] == ["cancelled"]


def test_who_listens_leaves_his_place_and_a_tenant_has_few(api, own, recording):
    fit_id = order(own, recording).json()["id"]
    link = AsyncRedisLink(api.platform.settings.require("redis.url"))

    async def main() -> None:
        mine = JobChanges(link, most=3, per_tenant=2)
        job_id = FitId.parse(fit_id)
        async with mine.follow(own.tenant, job_id), mine.follow(own.tenant, job_id):
            with pytest.raises(ApiProblem, match="at most 2"):
                await mine.follow(own.tenant, job_id).__aenter__()
            async with mine.follow(TenantId("another"), job_id):
                with pytest.raises(ApiProblem):
                    await mine.follow(TenantId("third"), job_id).__aenter__()
        async with mine.follow(own.tenant, job_id) as states:  # the places are free again
            assert [str(job.id) async for job in states(0.0)] == [fit_id]
        await mine.close()
        await link.close()

    asyncio.run(main())
