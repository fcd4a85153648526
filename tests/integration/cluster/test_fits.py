"""What an operator does about fits, over the real stores and without Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from cluster.control.batch_jobs import BatchJobState
from cluster.control.fit_requests import FitOptions, FitRequest
from cluster.control.fits import FitService, Recording
from cluster.ids import IdentityName
from cluster.platform import Platform
from cluster.state.problems import Problem
from m2dao.errors import ClusterUnavailable, Conflict, InputError

OPTIONS = FitOptions(protocols=("paper",))


class Cluster:
    """A cluster whose jobs do nothing: the test plays their part."""

    def __init__(self):
        self.up = True
        self.submitted: list[tuple[str, Sequence[str]]] = []
        self.ended: dict[str, str] = {}  # submission id -> why

    def check(self) -> None:
        if not self.up:
            raise ClusterUnavailable("cluster")

    def submit(self, batch: str, words: Sequence[str], env: Mapping[str, str]) -> str:
        self.check()
        self.submitted.append((batch, words))
        return f"{batch}-{len(self.submitted)}"

    def last(self, batch: str) -> str | None:
        numbers = [number for number, (name, _) in enumerate(self.submitted, 1) if name == batch]
        return f"{batch}-{numbers[-1]}" if numbers else None

    def active(self, batch: str) -> str | None:
        last = self.last(batch)
        return None if last in self.ended else last

    def state(self, submission_id: str) -> BatchJobState:
        ended = submission_id in self.ended
        status = "FAILED" if ended else "RUNNING"
        return BatchJobState(status=status, ended=ended, message=self.ended.get(submission_id, ""))


@pytest.fixture(scope="module")
def platform(stack):
    return Platform(stack)


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def service(platform, cluster):
    return FitService(state=platform.state, store=platform.store, cluster=cluster, work="some.module:work")


@pytest.fixture
def recording(tmp_path):
    def make(name: str) -> Recording:
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(f"video of {name}".encode())
        return Recording(identity=IdentityName(name), path=path)

    return make


def claim(platform, tenant, job):
    return platform.state.jobs.claim("fit", worker="w", lease_s=60, tenant=tenant, job_id=job.id)


def test_recordings_become_queued_fits_and_one_job_that_knows_them(service, cluster, platform, tenant, recording):
    batch = service.submit(tenant, [recording("anna"), recording("ben")], OPTIONS, consent="release 117")
    ((name, words),) = cluster.submitted
    assert (batch.name, batch.submission_id) == (name, f"{name}-1")
    assert [words[index + 1] for index, word in enumerate(words) if word == "--fit"] == list(map(str, batch.fit_ids))
    assert words[words.index("--work") + 1] == "some.module:work"
    for job in batch.jobs:
        request = FitRequest.of(job)
        assert (job.status, request.batch, request.consent) == ("queued", name, "release 117")
        assert platform.store.get_bytes(request.recording_key(tenant)) == f"video of {request.identity}".encode()


def test_nothing_is_uploaded_for_a_cluster_that_takes_no_jobs(service, cluster, platform, tenant, recording):
    cluster.up = False
    with pytest.raises(ClusterUnavailable):
        service.submit(tenant, [recording("anna")], OPTIONS)
    assert list(platform.store.list(f"{tenant}/")) == []
    assert platform.state.jobs.list(tenant, "fit") == []


def test_one_identity_cannot_be_fitted_twice_in_one_batch(service, tenant, recording):
    with pytest.raises(InputError, match="anna more than once"):
        service.submit(tenant, [recording("anna"), recording("anna")], OPTIONS)


def test_a_queued_fit_and_a_running_one_can_be_cancelled_and_an_ended_one_not(service, platform, tenant, recording):
    batch = service.submit(tenant, [recording("anna"), recording("ben")], OPTIONS)
    claim(platform, tenant, batch.jobs[1])
    for fit_id in batch.fit_ids:
        job = service.cancel(tenant, fit_id)
        assert (job.status, job.error.code) == ("failed", "cancelled")
        with pytest.raises(Conflict, match="goes on"):
            service.cancel(tenant, fit_id)


def test_a_failed_fit_goes_on_under_a_new_id_from_the_steps_of_the_old_one(
    service, cluster, platform, tenant, recording
):
    batch = service.submit(tenant, [recording("anna")], OPTIONS)
    platform.state.jobs.fail(claim(platform, tenant, batch.jobs[0]), Problem(code="x"))
    (again,) = service.resume(tenant, batch.fit_ids)
    assert again.fit_ids != batch.fit_ids
    old, new = batch.jobs[0], again.jobs[0]
    assert FitRequest.of(new).steps_key(new) == FitRequest.of(old).steps_key(old)
    assert len(cluster.submitted) == 2


def test_an_interrupted_fit_keeps_its_id_and_waits_until_its_job_has_ended(service, cluster, tenant, recording):
    batch = service.submit(tenant, [recording("anna")], OPTIONS)
    with pytest.raises(Conflict, match="no Ray job at it"):
        service.resume(tenant, batch.fit_ids)
    cluster.ended[batch.submission_id] = "the head was lost"
    (again,) = service.resume(tenant, batch.fit_ids)
    assert (again.fit_ids, again.name) == (batch.fit_ids, batch.name)
    assert again.submission_id != batch.submission_id


def test_following_shows_every_change_and_ends_with_the_last_fit(service, platform, tenant, recording):
    batch = service.submit(tenant, [recording("anna")], OPTIONS)
    jobs, seen = platform.state.jobs, []
    following = service.follow(service.batch_of(tenant, batch.fit_ids))
    seen.append(next(following).status)
    mine = claim(platform, tenant, batch.jobs[0])
    seen.append(next(following).status)
    jobs.finish(mine, {"ref": "x"})
    seen += [job.status for job in following]
    assert seen == ["queued", "running", "done"]


def test_who_follows_a_batch_whose_job_was_lost_is_told_how_to_go_on(service, cluster, tenant, recording, monkeypatch):
    monkeypatch.setattr("cluster.control.fits.LOOK_EVERY_S", 0.0)
    batch = service.submit(tenant, [recording("anna")], OPTIONS)
    cluster.ended[batch.submission_id] = "out of memory"
    command = f"m2dao-train resume --tenant {tenant} {batch.fit_ids[0]}"
    with pytest.raises(ClusterUnavailable, match=f"failed: out of memory.*{command}"):
        list(service.follow(batch))


def test_fits_of_two_batches_are_not_followed_as_one(service, tenant, recording):
    batches = [service.submit(tenant, [recording(name)], OPTIONS) for name in ("anna", "ben")]
    with pytest.raises(InputError, match="2 batches"):
        service.batch_of(tenant, [fit_id for batch in batches for fit_id in batch.fit_ids])
