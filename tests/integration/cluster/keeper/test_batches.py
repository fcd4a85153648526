"""Batches: carried out in waves, paused by failures, and safe to cut off anywhere."""

from __future__ import annotations

import contextlib

import pytest

from cluster.control.champions import Champions
from cluster.control.fit_requests import FitOptions, FitRequest
from cluster.control.fleet.batches import Batches
from cluster.control.recordings import recording_key
from cluster.ids import FitId, IdentityName, ModelRef
from cluster.platform import Platform
from cluster.state.problems import Problem
from cluster.state.resources.batches import BatchItem, BatchRecord, BatchTerms
from cluster.state.versions import VersionDetails, VersionFacts
from m2dao.errors import Conflict
from tests.support.small_work import SPEAKS

NAMES = ("anna", "ben", "cleo", "dora", "emil")
FACTS = VersionFacts(files_sha256="a" * 64, num_bytes=3)
GOOD = {"psnr_db": 31.0, "sync_confidence": 0.6, **SPEAKS}


class Killed(BaseException):
    """Stands for SIGKILL: no handler may catch it."""


class Proven(Champions):
    """Champions whose versions can all be rendered: no replica runs here."""

    def prove(self, ref: ModelRef) -> str:
        return "cpu"


@pytest.fixture(scope="module")
def platform(stack):
    return Platform(stack)


@pytest.fixture
def batches(platform):
    return Batches(platform.state, platform.store, Proven(platform.state))


@pytest.fixture
def create(platform, tenant):
    def make(kind: str = "fit", *, wave: int = 2, max_failed: int = 0, **more) -> BatchRecord:
        sha256 = "b" * 64 if kind == "fit" else ""
        items = [BatchItem(identity=name, recording_sha256=sha256, recording_name="a.mp4") for name in NAMES]
        options = FitOptions().as_dict() if kind == "fit" else {}
        terms = BatchTerms(wave=wave, max_failed=max_failed, options=options, **more)
        return platform.state.batches.create(tenant, kind, terms, items)

    return make


@pytest.fixture
def look(platform, tenant):
    """The batch as it is now."""
    return lambda record: platform.state.batches.get(tenant, record.id)


def begun(record: BatchRecord) -> list[str]:
    return [item.identity for item in record.items if item.status == "begun"]


def end(platform: Platform, record: BatchRecord, name: str, *, fails: bool = False) -> None:
    """What a worker does with the fit of an item."""
    (item,) = (item for item in record.items if item.identity == name)
    jobs = platform.state.jobs
    claim = jobs.claim("fit", worker="w", lease_s=60, tenant=record.tenant, job_id=FitId.parse(item.job))
    if fails:
        jobs.fail(claim, Problem(code="recording-rejected", detail="no face"))
    else:
        jobs.finish(claim, {"ref": f"{record.tenant}.{name}@1"})


def test_a_batch_is_fitted_wave_by_wave_until_it_is_done(platform, tenant, batches, create, look):
    record = create(promote=True)
    for wave in (["anna", "ben"], ["cleo", "dora"], ["emil"]):
        for _ in range(2):  # a step more changes nothing
            batches.step()
            assert begun(look(record)) == wave
        for name in wave:
            end(platform, look(record), name)
    batches.step()
    record = look(record)
    assert (record.status, record.counts) == ("done", {"done": 5})
    assert record.items[0].detail == f"{tenant}.anna@1"
    assert FitRequest.of(platform.state.jobs.get(tenant, FitId.parse(record.items[0].job))).promote
    assert (tenant, record.id) not in platform.state.batches.open()


def test_too_many_failures_pause_a_batch_until_it_is_resumed(platform, batches, create, look):
    record = create(max_failed=0)
    batches.step()
    end(platform, look(record), "anna", fails=True)
    batches.step()
    record = look(record)
    assert (record.status, record.reason) == ("paused", "1 failed, allowed are 0")
    assert record.items[0].detail == "no face"
    end(platform, record, "ben")
    batches.step()
    assert begun(look(record)) == []  # nothing new begins
    batches.resume(look(record))
    batches.step()
    assert begun(look(record)) == ["cleo", "dora"]


def test_what_failed_can_be_begun_anew_and_is_another_fit(platform, batches, create, look):
    record = create(wave=1)
    batches.step()
    first = look(record).items[0].job
    end(platform, look(record), "anna", fails=True)
    batches.step()
    batches.resume(look(record), retry_failed=True)
    batches.step()
    again = look(record)
    assert begun(again) == ["anna"]
    assert again.items[0].job not in ("", first)
    with pytest.raises(Conflict, match="paused"):
        batches.resume(batches.cancel(again))


def test_a_cancelled_batch_ends_what_it_has_begun(platform, tenant, batches, create, look):
    record = create()
    batches.step()
    job = look(record).items[0].job
    assert batches.cancel(look(record)).status == "cancelling"
    batches.step()
    record = look(record)
    assert (record.status, record.counts) == ("cancelled", {"cancelled": 5})
    assert platform.state.jobs.get(tenant, FitId.parse(job)).status == "cancelled"
    assert batches.cancel(record) == record


@pytest.mark.parametrize("then", ["goes on", "is cancelled"])
def test_a_keeper_that_is_killed_at_any_step_queues_no_fit_twice(
    platform, tenant, batches, create, look, monkeypatch, then
):
    record, run = create(wave=3), type(platform.state._link).run
    for dies_after in range(12):
        left = [dies_after]

        def killed(self, script, names, args, left=left):
            answer = run(self, script, names, args)
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return answer

        monkeypatch.setattr(type(platform.state._link), "run", killed)
        with contextlib.suppress(Killed):
            batches.step()
        monkeypatch.undo()
        if then == "is cancelled" and dies_after == 2:
            batches.cancel(look(record))
    batches.step()
    jobs = platform.state.jobs.list(tenant, "fit", limit=100)
    if then == "is cancelled":
        assert look(record).status == "cancelled"
        assert {job.status for job in jobs} <= {"cancelled"}
    else:
        assert begun(look(record)) == ["anna", "ben", "cleo"]
        assert sorted(str(job.id) for job in jobs) == sorted(item.job for item in look(record).items if item.job)
        assert len(jobs) == 3


def test_versions_are_judged_and_those_that_pass_are_promoted(platform, tenant, batches, create, look):
    for name, metrics in (("anna", GOOD), ("ben", {**GOOD, "psnr_db": 5.0})):
        ref = ModelRef(tenant, IdentityName(name), 1)
        platform.state.versions.commit(ref, FACTS, details=VersionDetails(ref=ref, metrics=metrics))
    record = create("judge", wave=5, max_failed=9, promote=True)
    batches.step()
    batches.step()
    record = look(record)
    assert (record.status, record.counts) == ("done", {"done": 1, "failed": 4})
    assert record.items[0].detail == "version 1 is the champion"
    assert "psnr_db 5 dB below" in record.items[1].detail
    assert platform.state.champions.get(tenant, IdentityName("anna")).version == 1
    assert platform.state.champions.get(tenant, IdentityName("ben")).version is None
    assert platform.state.versions.verdicts([ModelRef(tenant, IdentityName("ben"), 1)])[0]["verdict"] == "refused"


def test_a_migration_fits_the_champion_again_as_it_was_fitted(platform, tenant, batches, create, look):
    sha256 = "d" * 64
    platform.store.put_bytes(recording_key(tenant, sha256), b"video")
    ref = ModelRef(tenant, IdentityName("anna"), 1)
    tags = {"recording_sha256": sha256, "recording_name": "anna.mp4", "size": "128", "minutes": "2.5", "seed": "7"}
    platform.state.versions.commit(ref, FACTS, details=VersionDetails(ref=ref, tags={**tags, "consent": "release 1"}))
    platform.state.champions.promote(ref)
    record = create("migrate", wave=5, max_failed=9)
    batches.step()
    record = look(record)
    assert begun(record) == ["anna"]
    assert record.counts["failed"] == 4
    assert "a champion to migrate" in record.items[1].detail
    request = FitRequest.of(platform.state.jobs.get(tenant, FitId.parse(record.items[0].job)))
    assert (request.recording_sha256, request.consent) == (sha256, "release 1")
    assert (request.options.size, request.options.minutes, request.options.seed) == (128, 2.5, 7)
