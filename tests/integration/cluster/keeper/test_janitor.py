"""What killed processes left behind goes; what a job or a version names stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cluster.control.fit_requests import FitOptions, FitRequest
from cluster.control.janitor import Janitor
from cluster.ids import FitId, IdentityName, ModelRef, RenderId
from cluster.object_keys import object_key
from cluster.platform import Platform
from cluster.state.problems import Problem
from m2dao.errors import LeaseLost, UnknownIdentity

ANNA = IdentityName("anna")
LATER = timedelta(days=2)


@pytest.fixture(scope="module")
def platform(stack):
    platform = Platform(stack)
    platform.state.champions.set_imported()  # the stack of the tests began empty
    cleaned_at(platform, LATER)  # of what tests of other files have left in the same stack
    return platform


def cleaned_at(platform, after: timedelta, **more):
    now = lambda: datetime.now(UTC) + after  # noqa: E731
    return Janitor(platform.state, platform.store, platform.registry, now=now).clean(**more)


@pytest.fixture
def clean(platform):
    """Cleans as if some time had passed."""

    def run(after: timedelta = LATER, **more):
        return cleaned_at(platform, after, **more)

    return run


@pytest.fixture
def put(platform, tenant):
    def make(*parts: str) -> str:
        key = object_key(tenant, *parts)
        platform.store.put_bytes(key, b"a face")
        return key

    return make


def left(platform, tenant) -> set[str]:
    return {info.key for info in platform.store.list(f"{tenant}/")}


def test_an_upload_without_a_render_and_a_video_that_is_no_result_go(platform, tenant, clean, put):
    jobs = platform.state.jobs
    job, _ = jobs.create(tenant, "render", {})
    waiting, _ = jobs.create(tenant, "render", {})
    claim = jobs.claim("render", worker="w", lease_s=60, tenant=tenant, job_id=job.id)
    result = put("renders", str(job.id), "video-2.mp4")
    jobs.finish(claim, {"key": result})
    kept = {result, put("renders", str(job.id), "speech.wav"), put("renders", str(waiting.id), "speech.wav")}
    put("renders", str(job.id), "video-1.mp4")
    put("renders", str(RenderId.new()), "speech.wav")
    assert clean(timedelta(0))["files of renders"] == 0  # too young: its render may just be being made
    assert clean()["files of renders"] == 2
    assert left(platform, tenant) == kept


def fit(platform, tenant, **more) -> FitId:
    options = FitOptions(protocols=("paper",))
    request = FitRequest(
        batch=str(FitId.new()), identity=ANNA, recording_sha256="0" * 64, recording_name="a", options=options, **more
    )
    return platform.state.jobs.create(tenant, "fit", request.as_dict())[0].id


def test_steps_stay_while_a_fit_can_go_on_from_them(platform, tenant, clean, put):
    jobs = platform.state.jobs
    waiting, failed, done, gone = (*(fit(platform, tenant) for _ in range(3)), FitId.new())
    old = FitId.new()
    again = fit(platform, tenant, steps_of=str(old))  # of a fit whose record has ended
    for fit_id, end in ((failed, lambda c: jobs.fail(c, Problem(code="x"))), (done, lambda c: jobs.finish(c, {}))):
        end(jobs.claim("fit", worker="w", lease_s=60, tenant=tenant, job_id=fit_id))
    kept = {put("fits", str(fit_id), "1-1.tar") for fit_id in (waiting, failed, old)}
    for fit_id in (done, gone):
        put("fits", str(fit_id), "1-1.tar")
    assert clean()["step checkpoints"] == 2
    assert left(platform, tenant) == kept
    jobs.cancel(tenant, again)
    assert clean()["step checkpoints"] == 1


def test_what_ray_train_noted_goes_with_its_batch(platform, tenant, clean, put):
    fit_id = fit(platform, tenant)
    batch = platform.state.jobs.get(tenant, fit_id).request["batch"]
    kept = put("ray-train", f"{batch}-1.0", "state.json")  # of worker 0 of the first job of the batch
    put("ray-train", f"{FitId.new()}-1.0", "state.json")
    assert clean()["files of Ray Train"] == 1
    assert left(platform, tenant) == {kept}


def test_objects_that_others_named_in_their_own_way_go_too(platform, tenant, clean, put):
    store, run = platform.store, f"{FitId.new()}-1"
    put("ray-train", run, "state.json")
    for name in (
        "",
        f"{run}/",
        f"{run}/.validate_storage_marker",
    ):  # as Ray Train makes them
        store._client.put_object(Bucket=store._bucket, Key=f"{tenant}/ray-train/{name}", Body=b"")
    assert clean()["files of Ray Train"] == 4
    assert left(platform, tenant) == set()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "identity").mkdir()
    (tmp_path / "identity" / "identity.json").write_text("{}")
    return tmp_path / "identity"


def test_a_registration_that_was_cut_off_leaves_nothing_for_long(platform, tenant, clean, put, folder):
    registry = platform.registry
    ref = registry.register_version(tenant, ANNA, folder, metrics={}, tags={})
    half = registry._new_version(tenant, ANNA, registry.runs.run_id(tenant, ANNA, FitId.new()), {}, FitId.new())
    put("identities", "anna", str(half.version), "identity.json")
    removed = clean()
    assert (removed["files of versions"], removed["versions"]) == (1, 1)
    assert all(key.startswith(ref.object_prefix) for key in left(platform, tenant))
    with pytest.raises(UnknownIdentity):
        registry.ledger.tag(half, {"a": "b"})
    assert registry.describe(ref).ref == ref


def test_a_deletion_that_was_cut_off_is_finished(platform, tenant, clean, folder):
    ref = platform.registry.register_version(tenant, ANNA, folder, metrics={}, tags={})
    platform.state.versions.retire(ref)  # and then the process was killed
    assert clean()["versions"] == 1
    assert left(platform, tenant) == set()
    assert platform.state.versions.all(tenant, ANNA) == {}
    assert ModelRef(tenant, ANNA, 1) not in platform.state.versions.untold()


def test_an_upload_in_parts_that_was_never_completed_goes(platform, tenant, clean):
    client, bucket = platform.store._client, platform.settings.s3.bucket
    begun = client.create_multipart_upload(Bucket=bucket, Key=f"{tenant}/captures/c.tar")
    client.upload_part(
        Bucket=bucket, Key=f"{tenant}/captures/c.tar", UploadId=begun["UploadId"], PartNumber=1, Body=b"a face"
    )
    assert clean(timedelta(0))["unfinished uploads"] == 0
    assert clean()["unfinished uploads"] >= 1
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_a_janitor_that_was_replaced_stops(clean):
    def replaced() -> None:
        raise LeaseLost("seat keeper")

    with pytest.raises(LeaseLost):
        clean(check=replaced)


def test_the_backlog_is_counted_anew(platform, tenant, clean):
    """An older release that serves beside this one keeps no totals of all tenants."""
    jobs = platform.state.jobs
    jobs.create(tenant, "render", {})
    platform.state._link.call("HINCRBY", "totals:render", "num_queue", 7)
    clean()
    of_each = [jobs.backlog("render", tenant=each).num_queued for each in platform.state.accounts.list_tenants()]
    assert jobs.backlog("render").num_queued == sum(of_each) > 0
