"""What an operator and the controller do about fits, over the real stores and without Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from cluster.control.batch_jobs import BatchJobState
from cluster.control.fit_controller import MOST_WAITING, FitController
from cluster.control.fit_requests import PRIORITIES, FitOptions, FitRequest
from cluster.control.fits import Batch, FitService, Recording
from cluster.ids import IdentityName
from cluster.platform import Platform
from cluster.state.problems import Problem
from m2dao.errors import ClusterUnavailable, Conflict, InputError, LeaseLost

OPTIONS = FitOptions(protocols=("paper",))


class Cluster:
    """A cluster whose jobs do nothing: the test plays their part."""

    def __init__(self):
        self.up = True
        self.submitted: list[tuple[str, Sequence[str]]] = []
        self.ended: dict[str, str] = {}  # submission id -> why

    def submit(self, batch: str, words: Sequence[str], env: Mapping[str, str]) -> str:
        if not self.up:
            raise ClusterUnavailable("cluster")
        self.submitted.append((batch, words))
        return f"{batch}-{len(self.submitted)}"

    def last(self, batch: str) -> str | None:
        numbers = [number for number, (name, _) in enumerate(self.submitted, 1) if name == batch]
        return f"{batch}-{numbers[-1]}" if numbers else None

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
def service(platform):
    return FitService(state=platform.state, store=platform.store)


@pytest.fixture
def controller(platform, cluster):
    return FitController(platform.state.jobs, cluster, work="some.module:work")


@pytest.fixture
def recording(tmp_path):
    def make(name: str) -> Recording:
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(f"video of {name}".encode())
        return Recording(identity=IdentityName(name), path=path)

    return make


def claim(platform, tenant, job):
    return platform.state.jobs.claim("fit", worker="w", lease_s=60, tenant=tenant, job_id=job.id)


def of(cluster: Cluster, batch: Batch) -> list[Sequence[str]]:
    """The words of the jobs that were submitted for a batch."""
    name = FitRequest.of(batch.jobs[0]).batch
    return [words for submitted, words in cluster.submitted if submitted == name]


def fits_in(words: Sequence[str]) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == "--fit"]


def test_recordings_become_queued_fits_and_one_job_that_knows_them(
    service, controller, cluster, platform, tenant, recording
):
    batch = service.submit(tenant, [recording("anna"), recording("ben")], OPTIONS, consent="release 117")
    assert cluster.submitted == []
    controller.start()
    (words,) = of(cluster, batch)
    assert fits_in(words) == list(map(str, batch.fit_ids))
    assert words[words.index("--work") + 1] == "some.module:work"
    for job in batch.jobs:
        request = FitRequest.of(job)
        assert (job.status, request.consent) == ("queued", "release 117")
        assert platform.store.get_bytes(request.recording_key(tenant)) == f"video of {request.identity}".encode()
    controller.start()
    assert len(of(cluster, batch)) == 1  # its job runs


def test_fits_wait_for_a_cluster_that_takes_no_jobs(service, controller, cluster, tenant, recording):
    cluster.up = False
    batch = service.submit(tenant, [recording("anna")], OPTIONS)
    with pytest.raises(ClusterUnavailable):
        controller.start()
    cluster.up = True
    controller.start()
    assert len(of(cluster, batch)) == 1


def test_a_fit_that_its_job_left_behind_is_started_again_by_whoever_is_controller_then(
    service, controller, cluster, platform, tenant, recording
):
    batch = service.submit(tenant, [recording("anna"), recording("ben")], OPTIONS)
    controller.start()
    platform.state.jobs.finish(claim(platform, tenant, batch.jobs[0]), {"ref": "x"})
    cluster.ended[cluster.last(FitRequest.of(batch.jobs[0]).batch)] = "the head was lost"
    controller.start()
    assert len(of(cluster, batch)) == 1  # not at once: whatever ended the job may do so again
    FitController(platform.state.jobs, cluster, work="some.module:work").start()
    assert [fits_in(words) for words in of(cluster, batch)] == [[*map(str, batch.fit_ids)], [str(batch.fit_ids[1])]]


def test_a_controller_that_was_replaced_submits_nothing(service, controller, cluster, tenant, recording):
    batch = service.submit(tenant, [recording("anna")], OPTIONS)

    def replaced() -> None:
        raise LeaseLost("seat keeper")

    with pytest.raises(LeaseLost):
        controller.start(replaced)
    assert of(cluster, batch) == []


def test_a_fit_that_nobody_can_read_fails_and_holds_up_no_other(
    service, controller, cluster, platform, tenant, recording
):
    strange, _ = platform.state.jobs.create(tenant, "fit", {"of": "another version"})
    batch = service.submit(tenant, [recording("anna")], OPTIONS)
    controller.start()
    assert len(of(cluster, batch)) == 1
    job = platform.state.jobs.get(tenant, strange.id)
    assert (job.status, job.error.code) == ("failed", "invalid-input")


def test_a_command_that_is_repeated_makes_no_fit_twice(service, platform, tenant, recording):
    first = service.submit(tenant, [recording("anna")], OPTIONS)  # and then, say, its machine was switched off
    second = service.submit(tenant, [recording("anna"), recording("ben")], OPTIONS)
    assert second.fit_ids[0] == first.fit_ids[0]
    assert len(platform.state.jobs.list(tenant, "fit")) == 2
    platform.state.jobs.fail(claim(platform, tenant, first.jobs[0]), Problem(code="x"))
    third = service.submit(tenant, [recording("anna")], OPTIONS)
    assert third.fit_ids[0] not in (*first.fit_ids, *second.fit_ids)
    assert service.submit(tenant, [recording("anna")], OPTIONS).fit_ids == third.fit_ids
    other = service.submit(tenant, [recording("anna")], FitOptions(protocols=("paper",), seed=1))
    assert other.fit_ids != third.fit_ids


def test_one_identity_cannot_be_fitted_twice_in_one_batch(service, tenant, recording):
    with pytest.raises(InputError, match="anna more than once"):
        service.submit(tenant, [recording("anna"), recording("anna")], OPTIONS)


def test_a_queued_fit_and_a_running_one_are_cancelled_and_a_done_one_not(service, platform, tenant, recording):
    batch = service.submit(tenant, [recording("anna"), recording("ben"), recording("carl")], OPTIONS)
    running, done = claim(platform, tenant, batch.jobs[1]), claim(platform, tenant, batch.jobs[2])
    for fit_id in batch.fit_ids[:2]:
        job = service.cancel(tenant, fit_id)
        assert (job.status, job.error) == ("cancelled", None)
    with pytest.raises(LeaseLost):
        platform.state.jobs.heartbeat(running, lease_s=60)
    platform.state.jobs.finish(done, {"ref": "x"})
    with pytest.raises(Conflict, match="done"):
        service.cancel(tenant, batch.fit_ids[2])


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_a_fit_that_ended_without_a_result_goes_on_under_a_new_id_from_the_steps_of_the_old_one(
    service, controller, cluster, platform, tenant, recording, how
):
    batch = service.submit(tenant, [recording("anna")], OPTIONS)
    if how == "failed":
        platform.state.jobs.fail(claim(platform, tenant, batch.jobs[0]), Problem(code="x"))
    else:
        service.cancel(tenant, batch.fit_ids[0])
    again = service.resume(tenant, batch.fit_ids)
    assert again.fit_ids != batch.fit_ids
    old, new = batch.jobs[0], again.jobs[0]
    assert FitRequest.of(new).steps_prefix(new) == FitRequest.of(old).steps_prefix(old)
    controller.start()
    assert fits_in(*of(cluster, again)) == [str(new.id)]  # no job without a fit to do


def test_an_open_fit_needs_no_resuming_and_a_done_one_cannot_be(service, platform, tenant, recording):
    batch = service.submit(tenant, [recording("anna")], OPTIONS)
    assert service.resume(tenant, batch.fit_ids).fit_ids == batch.fit_ids
    platform.state.jobs.finish(claim(platform, tenant, batch.jobs[0]), {"ref": "x"})
    with pytest.raises(Conflict, match="not done"):
        service.resume(tenant, batch.fit_ids)


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


def test_what_has_priority_is_started_first_and_few_batches_of_a_tenant_wait_on_the_cluster(
    service, controller, cluster, platform, tenant, recording
):
    def queue(name: str, priority: str = "normal") -> Batch:
        return service.submit(tenant, [recording(name)], OPTIONS, priority=PRIORITIES[priority])

    low = queue("low", "low")
    usual = [queue(f"usual-{number}") for number in range(MOST_WAITING)]
    high = queue("high", "high")
    controller.start()
    assert [len(of(cluster, batch)) for batch in (high, *usual, low)] == [1] * MOST_WAITING + [0, 0]
    order = [words[words.index("--batch") + 1] for _, words in cluster.submitted if str(tenant) in words]
    assert order[0] == FitRequest.of(high.jobs[0]).batch
    claim(platform, tenant, high.jobs[0])  # it has a place, so another may wait for one
    controller.start()
    assert [len(of(cluster, batch)) for batch in (*usual, low)] == [1] * MOST_WAITING + [0]


def test_a_fit_of_the_usual_priority_is_stored_as_the_release_before_reads_it(service, tenant, recording):
    batch = service.submit(tenant, [recording("anna")], OPTIONS)
    assert "priority" not in batch.jobs[0].request
    urgent = service.submit(tenant, [recording("anna")], OPTIONS, priority=1)
    assert urgent.fit_ids == batch.fit_ids  # the same wish
