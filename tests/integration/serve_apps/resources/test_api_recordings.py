"""Recordings over HTTP: uploaded in parts past the ingress, looked into, kept for a time, deleted."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from cluster.control.recordings import Looked, Recordings, recording_key, upload_key
from cluster.ids import FitId, RecordingId
from cluster.keeper.recordings_chore import RecordingsChore
from cluster.settings import MB
from cluster.state import keys
from cluster.state.lease import Lease
from cluster.state.problems import Problem
from cluster.state.resources.recordings import RecordingRecord
from cluster.state.upkeep.erasures import hash_of, recording_path
from m2dao.errors import ServiceUnavailable, StorageUnavailable
from serve_apps.recordings.look import look_into
from tests.support.recordings import write_recording
from tests.support.serve import SMALL, Api, Customer, api_over, assert_problem
from tests.support.stack import reaching

_contents = itertools.count()
TOO_MUCH = 40 * MB


@pytest.fixture(scope="module")
def api(stack):
    limits = {"max_mb": "30", "storage_mb": "39", "max_uploads": "3", "part_mb": "6"}
    with api_over(reaching(stack, **{f"recordings_{name}": value for name, value in limits.items()}), SMALL) as api:
        yield api


@pytest.fixture
def own(api: Api) -> Customer:
    return api.customer()


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    return write_recording(tmp_path_factory.mktemp("video") / "anna.mp4", seconds=1.0).read_bytes()


@pytest.fixture
def keep(api: Api, tmp_path) -> Callable[..., None]:
    """Has the keeper do what is due about recordings; they are decoded in contained processes."""

    class Held(Lease):  # a keeper's seat that nobody else wants
        def __init__(self):
            pass

        def check(self) -> None:
            pass

    numbers = itertools.count()

    def look(record: RecordingRecord) -> Looked:
        folder = tmp_path / str(next(numbers))
        folder.mkdir(mode=0o700)
        return look_into(api.platform, record, folder)

    def run(look: Callable[[RecordingRecord], Looked] | None = look) -> None:
        chore = RecordingsChore(api.platform, look=look)
        while chore.do(Held()) == 0.0:
            pass

    return run


def fresh(num_bytes: int) -> bytes:
    """Bytes that no other test has."""
    return np.random.default_rng(next(_contents)).bytes(num_bytes)


def ask(own: Customer, content: bytes, *, key: str | None = None, **changes) -> httpx.Response:
    body = {"name": "anna.mp4", "num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **changes}
    return own.client.post("/v1/recordings", json=body, headers={} if key is None else {"Idempotency-Key": key})


def send(upload: dict, content: bytes, *, only: set[int] | None = None) -> None:
    for part in upload["missing"]:
        if only is None or part["number"] in only:
            begin = (part["number"] - 1) * upload["part_bytes"]
            piece = content[begin : begin + part["num_bytes"]]
            httpx.put(part["url"], content=piece, timeout=60, trust_env=False).raise_for_status()


def uploaded(own: Customer, content: bytes, **changes) -> str:
    """The path of a recording that is complete."""
    body = ask(own, content, **changes).json()
    send(body["upload"], content)
    path = f"/v1/recordings/{body['id']}"
    answer = own.client.post(f"{path}/complete")
    assert (answer.status_code, answer.json()["state"]) == (202, "checking"), answer.text
    return path


def objects(api: Api, own: Customer) -> set[str]:
    return {info.key.removeprefix(f"{own.tenant}/") for info in api.services.store.list(f"{own.tenant}/")}


def test_a_video_is_uploaded_in_parts_and_looked_into(api, own, video, keep):
    content = video + bytes(13 * MB - len(video))  # players stop at the end of the last box
    answer = ask(own, content)
    assert answer.status_code == 201
    body = answer.json()
    path = answer.headers["location"]
    assert path == f"/v1/recordings/{body['id']}"
    assert (body["state"], body["upload"]["num_parts"]) == ("uploading", 3)
    send(body["upload"], content, only={1, 3})
    told = assert_problem(own.client.post(f"{path}/complete"), 409, "conflict")
    assert "part 2" in told["detail"]
    parts = own.client.get(f"{path}/parts").json()  # another process goes on
    assert [part["number"] for part in parts["stored"]] == [1, 3]
    assert [part["number"] for part in parts["missing"]] == [2]
    send(parts, content)
    assert own.client.post(f"{path}/complete").json()["state"] == "checking"
    assert own.client.post(f"{path}/complete").status_code == 202  # the answer was lost
    keep()
    ready = own.client.get(path).json()
    assert (ready["state"], ready["error"]) == ("ready", None), ready
    assert ready["report"]["video"]["width"] == 288
    assert ready["report"]["audio"]["sample_rate"] == 16_000
    assert ready["expires_at"] is not None
    assert objects(api, own) == {f"recordings/{hashlib.sha256(content).hexdigest()}"}
    assert_problem(own.client.get(f"{path}/parts"), 409, "conflict")


def test_the_same_bytes_are_one_recording_however_often_they_come(api, own, video, keep):
    path = uploaded(own, video)
    assert ask(own, video, name="again.mov").json()["id"] in path
    keep()
    again = ask(own, video).json()
    assert again["id"] in path
    assert (again["state"], again["upload"]) == ("ready", None)
    assert own.client.get("/v1/recordings").json()["recordings"] == [{**again, "upload": None}]


def test_requests_under_one_key_are_one_recording_and_another_body_is_refused(own):
    content, ids, start = fresh(100), [], threading.Barrier(6)

    def create() -> None:
        start.wait()
        ids.append(ask(own, content, key="upload-1").json()["id"])

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 6
    assert len(set(ids)) == 1
    assert_problem(ask(own, content, key="upload-1", name="ben.mp4"), 422, "idempotency-conflict")
    assert len(own.client.get("/v1/recordings").json()["recordings"]) == 1


def test_room_is_reserved_when_an_upload_begins_and_free_when_it_is_deleted(api, own):
    first = ask(own, fresh(10), num_bytes=30 * MB).json()
    told = assert_problem(ask(own, fresh(10), num_bytes=10 * MB), 429, "storage-full")
    assert "delete recordings" in told["detail"]
    assert own.client.delete(f"/v1/recordings/{first['id']}").status_code == 204
    assert ask(own, fresh(10), num_bytes=30 * MB).status_code == 201
    assert api.services.state.recordings.num_bytes(own.tenant) == 30 * MB


def test_few_uploads_are_open_at_once(own):
    first, *_ = (ask(own, fresh(10)).json() for _ in range(3))
    answer = ask(own, fresh(10))
    assert_problem(answer, 429, "too-many-uploads")
    assert int(answer.headers["retry-after"]) > 0
    own.client.delete(f"/v1/recordings/{first['id']}")
    assert ask(own, fresh(10)).status_code == 201


def test_a_recording_that_is_too_large_or_nonsense_is_refused_before_anything_is_stored(api, own):
    assert_problem(ask(own, b"x", num_bytes=TOO_MUCH), 413, "recording-too-large")
    for wrong in ({"num_bytes": 0}, {"sha256": "x"}, {"name": ""}, {"sha256": "A" * 64}, {"more": 1}):
        assert_problem(ask(own, b"x", **wrong), 422, "invalid-request")
    assert_problem(ask(own, b"x", name="a\nb"), 422, "invalid-input")
    assert own.client.get("/v1/recordings").json() == {"recordings": [], "next": None}


@pytest.mark.parametrize("what", ["text", "sound", "cut", "bomb"])
def test_what_cannot_be_decoded_or_fitted_is_refused_with_the_reason(api, own, video, keep, tmp_path, what):
    crafted = {
        "text": lambda: b"<html>not found</html>" * 100,
        "sound": lambda: write_sound(tmp_path),
        "cut": lambda: video[: len(video) // 3],
        "bomb": lambda: video.replace(b"stsz\0\0\0\0\0\0\0\0", b"stsz\0\0\0\0\xff\xff\xff\xff"),
    }[what]()
    path = uploaded(own, crafted)
    keep()
    body = own.client.get(path).json()
    assert body["state"] == "refused", body
    assert body["error"]["status"] == 422
    assert str(tmp_path) not in str(body)
    assert objects(api, own) == set()
    assert ask(own, crafted).json()["id"] not in path  # it may be tried anew


def write_sound(folder: Path) -> bytes:
    from tests.support.serve import speech

    return speech(1.0)


def test_other_bytes_than_were_announced_are_refused(api, own, video, keep):
    path = uploaded(own, video, sha256="0" * 64)
    keep()
    body = own.client.get(path).json()
    assert (body["state"], body["error"]["type"]) == ("refused", "urn:m2dao:problem:upload-damaged")
    assert objects(api, own) == set()


def test_a_deleted_recording_takes_its_captures_along_and_frees_its_room(api, own, video, keep):
    path, sha256 = uploaded(own, video), hashlib.sha256(video).hexdigest()
    keep()
    store = api.services.store
    store.put_bytes(f"{own.tenant}/captures/v1-512-{sha256}.tar", b"a face")
    store.put_bytes(f"{own.tenant}/captures/v1-512-{'0' * 64}.tar", b"another")
    assert own.client.delete(path).status_code == 204
    assert objects(api, own) == {f"captures/v1-512-{'0' * 64}.tar"}
    assert_problem(own.client.get(path), 404, "unknown-recording")
    assert_problem(own.client.delete(path), 404, "unknown-recording")
    assert api.services.state.recordings.num_bytes(own.tenant) == 0


def test_a_recording_that_an_open_fit_needs_stays(api, own, video, keep):
    path, sha256 = uploaded(own, video), hashlib.sha256(video).hexdigest()
    keep()
    jobs = api.services.state.jobs
    job, _ = jobs.create(own.tenant, "fit", {"recording_sha256": sha256}, job_id=FitId.new())
    assert_problem(own.client.delete(path), 409, "conflict")
    expire(api, own, path)
    keep()  # its time is over, but it is needed
    assert own.client.get(path).status_code == 200
    jobs.cancel(own.tenant, job.id)
    assert own.client.delete(path).status_code == 204


def expire(api: Api, own: Customer, path: str) -> None:
    """Its time is over."""
    api.services.state._link.call("ZADD", keys.DUE_RECORDINGS, 1, f"{own.tenant} {path.rpartition('/')[2]}")


@pytest.mark.parametrize("when", ["before its bytes", "amid its parts", "complete, but not told", "ready", "refused"])
def test_a_recording_whose_time_is_over_leaves_nothing(api, own, video, keep, when):
    content = video + bytes(7 * MB)
    if when in ("ready", "refused"):
        path = uploaded(own, content if when == "ready" else b"no video")
        keep()
    else:
        body = ask(own, content).json()
        path = f"/v1/recordings/{body['id']}"
        only = {"before its bytes": set(), "amid its parts": {1}}.get(when)
        send(body["upload"], content, only=only)
        if when == "complete, but not told":  # the process died before it could note it
            recordings = Recordings(api.platform.state, api.platform.store, api.platform.settings.recordings)
            record = recordings.get(own.tenant, RecordingId.parse(body["id"]))
            key = upload_key(own.tenant, record.id)
            recordings._parts.complete(key, record.upload, recordings._parts.parts(key, record.upload))
    expire(api, own, path)
    keep()
    assert_problem(own.client.get(path), 404, "unknown-recording")
    assert objects(api, own) == set()
    link = api.services.state._link
    left = set(link.scan(f"{own.tenant}:record*"))
    assert left == set()
    recording_id, erasures = RecordingId.parse(path.rpartition("/")[2]), api.services.state.erasures
    noted = (recording_path(own.tenant, recording_id), upload_key(own.tenant, recording_id))
    assert {hash_of(erasures.key(), path) for path in noted} <= set(erasures.all())
    assert api.services.state.recordings.num_bytes(own.tenant) == 0
    assert link.call("HGET", keys.stored(own.tenant), "open") == "0"
    uploads = api.services.store._client.list_multipart_uploads(Bucket=api.platform.settings.s3.bucket)
    assert [entry for entry in uploads.get("Uploads", ()) if str(own.tenant) in entry["Key"]] == []


def test_a_complete_whose_note_was_lost_can_be_asked_again(api, own, video, keep, monkeypatch):
    body = ask(own, video).json()
    send(body["upload"], video)
    path, table = f"/v1/recordings/{body['id']}", api.services.state.recordings
    note = table.to_checking

    def lost(record):
        raise ServiceUnavailable("state store")

    monkeypatch.setattr(table, "to_checking", lost)
    assert_problem(own.client.post(f"{path}/complete"), 503, "service-unavailable")
    monkeypatch.setattr(table, "to_checking", note)
    assert own.client.post(f"{path}/complete").json()["state"] == "checking"
    keep()
    assert own.client.get(path).json()["state"] == "ready"


def test_a_look_that_fails_because_of_us_is_repeated_and_blames_nobody(api, own, video, keep):
    path = uploaded(own, video)

    def away(record: RecordingRecord) -> Looked:
        raise StorageUnavailable("object store")

    keep(away)
    assert own.client.get(path).json()["state"] == "checking"
    table = api.services.state.recordings
    record = table.find(own.tenant, RecordingId.parse(path.rpartition("/")[2]))
    assert record.num_tries == 1
    expire(api, own, path)
    keep()
    assert own.client.get(path).json()["state"] == "ready"


def test_a_recording_that_is_deleted_while_it_is_looked_into_is_gone(api, own, video, keep):
    path = uploaded(own, video)

    def slow(record: RecordingRecord) -> Looked:
        assert own.client.delete(path).status_code == 204
        return Looked(report={})

    keep(slow)
    assert_problem(own.client.get(path), 404, "unknown-recording")
    expire(api, own, path)
    keep(slow)
    assert objects(api, own) == set()


def test_tenants_take_turns_in_being_looked_into(api, own, keep):
    other, order = api.customer(), []
    for customer, count in ((own, 3), (other, 1)):
        for _ in range(count):
            uploaded(customer, fresh(50))

    def look(record: RecordingRecord) -> Looked:
        order.append(record.tenant)
        return Looked(problem=Problem(code="unreadable-media"))

    keep(look)
    mine = [tenant for tenant in order if tenant in (own.tenant, other.tenant)]
    assert mine.index(other.tenant) < 2
    assert len(mine) == 4


def test_recordings_come_in_pages_the_newest_first(api, own):
    ids = [ask(own, fresh(10)).json()["id"] for _ in range(3)]
    first = own.client.get("/v1/recordings", params={"limit": 2}).json()
    rest = own.client.get("/v1/recordings", params={"limit": 2, "after": first["next"]}).json()
    assert [body["id"] for body in (*first["recordings"], *rest["recordings"])] == ids[::-1]
    assert rest["next"] is None


def test_the_keeper_looks_in_a_process_of_its_own(api, own, video, keep):
    path = uploaded(own, video)
    keep(None)
    body = own.client.get(path).json()
    assert (body["state"], body["report"]["video"]["height"]) == ("ready", 288)


def test_a_fit_finds_the_recording_where_it_always_was(api, own, video, keep):
    uploaded(own, video)
    keep()
    key = recording_key(own.tenant, hashlib.sha256(video).hexdigest())
    assert api.services.store.get_bytes(key) == video
