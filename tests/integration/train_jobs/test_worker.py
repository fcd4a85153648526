"""Workers of a batch against real services, without Ray: pulled, charged, resumed and registered."""

from __future__ import annotations

import os
import tarfile
import threading
import time
import urllib.parse

import pytest

from cluster.archives import get_archive, put_archive
from cluster.ids import AliasRef, IdentityName, ModelRef
from cluster.object_keys import object_key
from cluster.platform import Platform
from cluster.state.problems import Problem
from m2dao.errors import ObjectCorrupt, UnknownIdentity
from tests.support.fault_proxy import FaultProxy
from tests.support.fits import Fits, WorkerDied, dying_at
from tests.support.serve import probing
from tests.support.small_work import small_fit
from tests.support.stack import reaching
from train_jobs.background import Background
from train_jobs.members import running_jobs, take_back
from train_jobs.step_checkpoints import StepCheckpoints
from train_jobs.worker import ABANDONED_S


@pytest.fixture(scope="module")
def platform(stack):
    return Platform(stack)


@pytest.fixture
def prober(platform, tmp_path):
    with probing(platform, tmp_path / "disk"):
        yield


@pytest.fixture
def fits(platform, tenant, tmp_path):
    return Fits(platform, tenant, tmp_path)


def test_a_finished_fit_is_a_version_with_metrics_tags_and_reports(fits, tmp_path):
    fit_id = fits.queue("anna", request={"consent": "A. Smith signed release 117"})
    assert fits.worker(fit_id).run() == 1

    job = fits.job(fit_id)
    assert (job.status, job.progress) == ("done", 1.0)
    ref = ModelRef.parse(job.result["ref"])
    assert (str(ref.identity), ref.version) == ("anna", 1)
    info = fits.platform.registry.describe(ref)
    assert info.fit_id == fit_id
    assert info.metrics["psnr_db"] == 30.0
    assert info.tags["consent"] == "A. Smith signed release 117"
    assert info.tags["capture_sha256"] == "c" * 64
    assert info.tags["recording_name"] == "anna.json"
    picture = fits.platform.registry.download_artifact(ref, "contact_sheet.jpg", tmp_path)
    assert picture.read_bytes() == b"picture of anna"
    fits.platform.registry.download(ref, tmp_path / "identity")
    assert (tmp_path / "identity" / "identity.json").is_file()


def test_a_fit_leaves_no_files_of_the_person_on_the_worker(fits):
    good, bad = fits.queue("anna"), fits.queue("ben", fail="rejected")
    fits.worker(good, bad).run()
    assert list((fits.folder / "scratch").iterdir()) == []


def test_files_of_killed_workers_are_removed_by_the_next_worker_on_the_machine(fits):
    mine, others = fits.queue("anna"), fits.queue("ben")
    scratch = fits.folder / "scratch"
    for name in (f"{mine}-1", f"{others}-1", "f-" + "0" * 32 + "-3"):
        (scratch / name).mkdir(parents=True)
    old = time.time() - ABANDONED_S - 60
    os.utime(scratch / ("f-" + "0" * 32 + "-3"), (old, old))
    fits.worker(mine).clean()
    assert [folder.name for folder in scratch.iterdir()] == [f"{others}-1"]


def test_a_rejected_recording_fails_at_once_and_alone(fits):
    bad, good = fits.queue("bad", fail="rejected"), fits.queue("good")
    fits.worker(bad, good).run()
    job = fits.job(bad)
    assert (job.status, job.attempt) == ("failed", 1)
    assert job.error.code == "recording-rejected"
    assert "a face" in job.error.detail
    assert fits.job(good).status == "done"


def test_a_fit_with_a_defect_is_tried_again_after_its_neighbours_and_then_given_up(fits):
    bad, good = fits.queue("bad", fail="bug", max_attempts=2), fits.queue("good")
    fits.worker(bad, good).run()
    job = fits.job(bad)
    assert (job.status, job.attempt, job.error.code) == ("failed", 2, "internal-error")
    assert fits.job(good).status == "done"
    order = [line for line in fits.diary.read_text().splitlines() if line.endswith("begin")]
    assert order == ["bad: begin", "good: begin", "bad: begin"]


def test_a_fit_whose_worker_died_goes_on_from_its_step_checkpoint(fits):
    fit_id = fits.queue("anna", steps=5)
    with pytest.raises(WorkerDied):
        fits.worker(fit_id, work=dying_at(3)).run()
    assert fits.job(fit_id).status == "running"  # nobody has noticed yet
    assert take_back(fits.platform.state.jobs, fits.spec(fit_id)) == 1
    fits.worker(fit_id, generation="g1").run()
    job = fits.job(fit_id)
    assert job.status == "done"
    assert job.result["resumed"]
    *before, begun, end = fits.events("anna")
    assert (before, end) == (["begin", "prepare", "from 0", "begin"], "end")
    assert begun in ("from 1", "from 2", "from 3")  # one copy is under way at a time; the others are left out
    assert job.attempt == 1  # taken back, so not counted


def test_the_step_checkpoints_of_a_finished_fit_are_deleted(fits):
    fit_id = fits.queue("anna")
    fits.worker(fit_id).run()
    assert list(fits.platform.store.list(f"{fits.tenant}/fits/")) == []


def test_the_capture_of_a_recording_is_made_once(fits):
    first, second = fits.queue("anna"), fits.queue("anna")
    fits.worker(first, second).run()
    assert fits.events("anna").count("prepare") == 1
    assert fits.job(second).result["ref"].endswith("anna@2")


def test_taking_back_leaves_the_living_generation_and_other_batches_alone(fits):
    jobs = fits.platform.state.jobs
    mine, others = fits.queue("anna"), fits.queue("ben")
    jobs.claim("fit", worker=f"{fits.batch}/new/0", lease_s=30, tenant=fits.tenant, job_id=mine)
    jobs.claim("fit", worker="another-batch/old/0", lease_s=30, tenant=fits.tenant, job_id=others)
    assert take_back(jobs, fits.spec(mine, others), keep_generation="new") == 0
    assert take_back(jobs, fits.spec(mine, others), keep_generation="newer") == 1
    assert fits.job(mine).attempt == 0
    assert fits.job(others).status == "running"


def test_only_worker_0_takes_suspects_and_only_when_nothing_fresh_is_left(fits):
    jobs = fits.platform.state.jobs
    suspect, fresh = fits.queue("suspect"), fits.queue("fresh")
    claim = jobs.claim("fit", worker="x", lease_s=30, tenant=fits.tenant, job_id=suspect)
    jobs.fail(claim, Problem(code="worker-died"), retry=True)
    assert fits.worker(suspect, fresh, rank=1).run() == 1  # the fresh one
    assert fits.job(suspect).status == "queued"
    assert fits.worker(suspect, fresh, rank=0).run() == 1
    assert fits.job(suspect).status == "done"


def test_a_suspect_waits_until_its_neighbour_has_ended(fits):
    jobs = fits.platform.state.jobs
    suspect, fresh = fits.queue("suspect"), fits.queue("fresh")
    claim = jobs.claim("fit", worker="x", lease_s=30, tenant=fits.tenant, job_id=suspect)
    jobs.fail(claim, Problem(code="worker-died"), retry=True)
    neighbour = jobs.claim("fit", worker=f"{fits.batch}/g0/1", lease_s=60, tenant=fits.tenant, job_id=fresh)
    worker = threading.Thread(target=fits.worker(suspect, fresh).run)
    with fits.platform.state.events.subscribe(job=(fits.tenant, suspect)) as changes:
        worker.start()
        assert changes.get(timeout_s=1.5) is None  # longer than a look of the worker's takes
        jobs.finish(neighbour, {"ref": "x"})
        worker.join(timeout=60)
    assert fits.job(suspect).status == "done"


def test_a_cancelled_fit_stops_within_a_step_and_its_result_does_not_count(fits):
    fit_id, after = fits.queue("anna"), fits.queue("ben")
    jobs, stopped = fits.platform.state.jobs, []

    def endless(task, monitor):
        if task.name == "ben":
            return small_fit(task, monitor)
        _, claim = running_jobs(jobs, fits.spec(fit_id))[fit_id]
        jobs.fail(claim, Problem(code="cancelled"))
        try:
            while True:
                monitor.stage("fit", 0.5)
        finally:
            stopped.append(task.name)

    assert fits.worker(fit_id, after, work=endless).run() == 2
    assert stopped == ["anna"]
    assert fits.job(fit_id).error == Problem(code="cancelled")
    assert fits.job(after).status == "done"
    with pytest.raises(UnknownIdentity):
        fits.platform.registry.resolve(ModelRef(fits.tenant, IdentityName("anna"), 1))


def test_a_worker_whose_fit_was_taken_back_stops_instead_of_taking_it_again(fits):
    fit_id, other = fits.queue("anna"), fits.queue("ben")
    jobs = fits.platform.state.jobs

    def endless(task, monitor):
        take_back(jobs, fits.spec(fit_id))
        while True:
            monitor.stage("fit", 0.5)

    assert fits.worker(fit_id, other, work=endless).run() == 1
    assert [(job.status, job.attempt) for job in (fits.job(fit_id), fits.job(other))] == [("queued", 0)] * 2


@pytest.mark.usefixtures("prober")
def test_a_version_that_passes_the_gate_is_promoted_by_its_fit(fits):
    fit_id = fits.queue("anna", request={"promote": True})
    fits.worker(fit_id).run()
    promotion = fits.job(fit_id).result["promotion"]
    assert promotion["promoted"]
    assert promotion["gate"]["passed"]
    champion = fits.platform.registry.resolve(AliasRef(fits.tenant, IdentityName("anna")))
    assert str(champion) == fits.job(fit_id).result["ref"]


@pytest.mark.usefixtures("prober")
def test_a_fit_that_is_tried_again_does_not_promote_again(fits, monkeypatch):
    """Its worker dies after the promotion, and an operator rolls back before the next attempt."""
    first, second = fits.queue("anna"), fits.queue("anna", request={"promote": True})
    fits.worker(first).run()
    champions, anna = fits.platform.state.champions, IdentityName("anna")
    champions.promote(ModelRef(fits.tenant, anna, 1))
    jobs = fits.platform.state.jobs

    def died(*args):
        raise WorkerDied

    monkeypatch.setattr(jobs, "finish", died)
    with pytest.raises(WorkerDied):
        fits.worker(second).run()
    monkeypatch.undo()
    assert champions.get(fits.tenant, anna).version == 2
    champions.roll_back(fits.tenant, anna)
    assert take_back(jobs, fits.spec(second)) == 1
    fits.worker(second, generation="g1").run()
    assert fits.job(second).result["promotion"]["promoted"]
    assert fits.job(second).result["ref"].endswith("anna@2")
    assert champions.get(fits.tenant, anna).version == 1
    assert fits.platform.state.versions.numbers(fits.tenant, anna) == (1, 2)


def test_a_version_that_the_gate_refuses_is_kept_and_its_fit_is_done(fits):
    fit_id = fits.queue("anna", psnr_db=10.0, request={"promote": True, "gate": {"min_psnr_db": 20.0}})
    fits.worker(fit_id).run()
    job = fits.job(fit_id)
    assert job.status == "done"
    assert job.result["promotion"]["promoted"] is False
    assert job.result["promotion"]["code"] == "promotion-refused"
    info = fits.platform.registry.describe(ModelRef.parse(job.result["ref"]))
    assert info.aliases == ()
    (verdict,) = fits.platform.state.versions.verdicts([info.ref])
    assert (verdict["verdict"], verdict["reasons"][0][:7]) == ("refused", "psnr_db")


@pytest.fixture
def claim(fits):
    fit_id = fits.queue("anna")
    return fits.platform.state.jobs.claim("fit", worker="w", lease_s=60, tenant=fits.tenant, job_id=fit_id)


def steps_of(fits, claim, folder, background, store=None) -> StepCheckpoints:
    store = store or fits.platform.store
    prefix = object_key(fits.tenant, "fits", str(claim.job.id)) + "/"
    return StepCheckpoints(store, prefix, claim, folder, background, every_s=0)


def test_steps_are_copied_only_when_they_have_changed(fits, claim):
    folder = fits.folder / "steps"
    folder.mkdir()
    with Background("copies") as background:
        steps = steps_of(fits, claim, folder, background)
        assert not steps.save_if_due()  # nothing there
        (folder / "step.bin").write_bytes(b"1")
        assert steps.save_if_due()
    with Background("copies") as background:
        again = steps_of(fits, claim, folder, background)
        assert not again.save_if_due()
        (folder / "step.bin").write_bytes(b"22")
        assert again.save_if_due()
    with Background("copies") as background:
        other = steps_of(fits, claim, fits.folder / "elsewhere", background)
        assert other.restore()
        assert (fits.folder / "elsewhere" / "step.bin").read_bytes() == b"22"
        assert not other.save_if_due()  # what was restored is what is stored


def test_a_copy_of_steps_that_cannot_be_made_costs_the_copy_and_not_the_fit(fits, claim):
    (folder := fits.folder / "steps").mkdir()
    with Background("copies") as background:
        steps = steps_of(fits, claim, folder, background)
        os.mkfifo(pipe := folder / "pipe")  # no copy of it can be made, as of anything where the disk is full
        (folder / "step.bin").write_bytes(b"1")
        assert not steps.save_if_due()
        pipe.unlink()
        assert steps.save_if_due()  # the next one is


def test_a_worker_that_was_given_up_neither_replaces_nor_deletes_its_successors_steps(fits, claim):
    jobs = fits.platform.state.jobs
    claims = [claim]
    for _ in range(2):
        jobs.release(claims[-1])
        claims.append(jobs.claim("fit", worker="w", lease_s=60, tenant=fits.tenant, job_id=claim.job.id))
    copies = []
    for number, held in enumerate([claims[1], claims[2], claims[0]]):  # the oldest speaks last
        folder = fits.folder / f"steps{number}"
        folder.mkdir()
        with Background("copies") as background:
            steps = steps_of(fits, held, folder, background)
            (folder / "step.bin").write_bytes(str(held.fence).encode())
            assert steps.save_if_due()
        copies.append(steps)
    with Background("copies") as background:
        assert steps_of(fits, claim, fits.folder / "back", background).restore()
    assert (fits.folder / "back" / "step.bin").read_bytes() == str(claims[2].fence).encode()
    copies[2].forget()
    assert len(list(fits.platform.store.list(f"{fits.tenant}/fits/"))) == 2
    copies[1].forget()
    assert list(fits.platform.store.list(f"{fits.tenant}/fits/")) == []


def test_the_newest_two_copies_of_steps_are_kept(fits, claim):
    jobs, folder = fits.platform.state.jobs, fits.folder / "steps"
    folder.mkdir()
    for number in range(4):
        with Background("copies") as background:
            steps = steps_of(fits, claim, folder, background)
            (folder / "step.bin").write_text(str(number))
            assert steps.save_if_due()
        jobs.release(claim)
        claim = jobs.claim("fit", worker="w", lease_s=60, tenant=fits.tenant, job_id=claim.job.id)
    fences = [int(info.key[-10:-4]) for info in fits.platform.store.list(f"{fits.tenant}/fits/")]
    assert fences == [claim.fence - 2, claim.fence - 1]


def test_an_object_store_that_is_away_costs_a_copy_and_not_the_fit(fits, claim, stack):
    folder = fits.folder / "steps"
    folder.mkdir()
    away = Platform(reaching(stack, s3_endpoint="http://127.0.0.1:9"))
    with Background("copies") as background:
        steps = steps_of(fits, claim, folder, background, away.store)
        (folder / "step.bin").write_bytes(b"1")
        assert steps.save_if_due()  # begun; that it failed is nobody's concern but the log's


def test_a_registry_that_hangs_takes_no_time_of_the_fits_steps(fits, stack):
    port = urllib.parse.urlsplit(stack.require("mlflow.url")).port
    fit_id, seen = fits.queue("anna"), []
    with FaultProxy(port) as proxy:
        hanging = Platform(reaching(stack, mlflow_url=f"http://127.0.0.1:{proxy.port}"))
        platform = Platform(stack, state=fits.platform.state, store=fits.platform.store, registry=hanging.registry)
        hanging.registry.check()
        slow = Fits(platform, fits.tenant, fits.folder)
        slow.batch = fits.batch

        def work(task, monitor):
            proxy.stall()
            (task.work_dir / "step.bin").write_bytes(b"1")
            for step in range(1, 200):  # far more than fit into what waits to be sent
                monitor.step(step, {"fit.loss": 1.0})
                seen.append(step)
            while not list(platform.store.list(f"{fits.tenant}/fits/")):  # copies of steps do not wait for it either
                monitor.step(200, {})
            proxy.heal()
            return small_fit(task, monitor)

        slow.worker(fit_id, work=work).run()
    assert seen[-1] == 199
    assert fits.job(fit_id).status == "done"


@pytest.mark.parametrize("kind", ["not an archive", "a link out of the folder", "a path out of the folder"])
def test_an_archive_that_could_harm_is_refused(fits, kind):
    path = fits.folder / "evil.tar"
    if kind == "not an archive":
        path.write_bytes(b"no archive at all" * 100)
    else:
        with tarfile.open(path, "w") as archive:
            member = tarfile.TarInfo("../escaped" if kind.startswith("a path") else "link")
            if kind.startswith("a link"):
                member.type, member.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(member)
    key = object_key(fits.tenant, "evil.tar")
    fits.platform.store.put_file(key, path)
    with pytest.raises(ObjectCorrupt):
        get_archive(fits.platform.store, key, fits.folder / "unpacked")
    assert not (fits.folder / "unpacked").exists()
    assert not (fits.folder / "escaped").exists()


def test_a_folder_comes_back_from_an_archive_as_it_was(fits):
    folder = fits.folder / "capture"
    (folder / "frames").mkdir(parents=True)
    (folder / "frames" / "000000.jpg").write_bytes(b"\x00\xff")
    (folder / "capture.json").write_text("{}")
    key = object_key(fits.tenant, "captures", "c.tar")
    assert not get_archive(fits.platform.store, key, fits.folder / "back")
    put_archive(fits.platform.store, key, folder)
    assert get_archive(fits.platform.store, key, fits.folder / "back")
    assert (fits.folder / "back" / "frames" / "000000.jpg").read_bytes() == b"\x00\xff"
