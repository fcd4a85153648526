"""Workers of a batch, each in a thread as it would be in a run of Ray Train."""

from __future__ import annotations

import contextlib
import threading
import urllib.parse
import uuid
from collections import Counter
from concurrent.futures import Future

import pytest

from cluster.ids import TenantId
from cluster.platform import Platform
from cluster.state.problems import Problem
from m2dao.errors import ClusterUnavailable, RenderBackendUnavailable, ServiceUnavailable
from tests.support.fault_proxy import FaultProxy
from tests.support.fits import Fits, WorkerDied, dying_at
from tests.support.small_work import small_fit
from tests.support.stack import reaching
from train_jobs.members import running_jobs, take_back
from train_jobs.supervisor import run_in_steps

WAIT_S = 120


@pytest.fixture
def fits(stack, tenant, tmp_path):
    return Fits(Platform(stack), tenant, tmp_path)


def supervised(*args, **settings):
    """What the supervisor returns, or a failure of the test when it does not end."""
    found = Future()

    def supervise():
        try:
            found.set_result(run_in_steps(*args, **settings))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=supervise, daemon=True).start()
    return found.result(WAIT_S)


def test_a_store_that_is_away_ends_no_worker(fits, stack):
    fit_id, missed = fits.queue("anna"), threading.Event()
    url = urllib.parse.urlsplit(stack.require("redis.url"))

    with FaultProxy(url.port) as proxy:
        netloc = url.netloc.replace(f":{url.port}", f":{proxy.port}")
        jobs = Platform(reaching(stack, redis_url=url._replace(netloc=netloc).geturl())).state.jobs

        class Watched:
            @staticmethod
            def get(*job):
                try:
                    return jobs.get(*job)
                except ServiceUnavailable:
                    missed.set()
                    raise

            def __getattr__(self, name):
                return getattr(jobs, name)

        def run(rank):
            proxy.refuse()
            assert missed.wait(WAIT_S)
            fits.worker(fit_id, rank=rank).run()
            proxy.heal()

        supervised(Watched(), fits.spec(fit_id), run, most=1)
    assert fits.job(fit_id).status == "done"


def test_a_batch_ends_without_the_workers_that_never_got_a_place(fits):
    waits, never = threading.Event(), threading.Event()
    four = [fits.queue(f"one-of-four-{number}") for number in range(4)]

    def work(task, monitor):
        assert waits.wait(WAIT_S)
        return small_fit(task, monitor)

    def run(rank):
        if rank:
            waits.set()
            never.wait()  # for a node that does not come
            return
        fits.worker(*four, rank=rank, work=work).run()

    assert not supervised(fits.platform.state.jobs, fits.spec(*four), run, most=4)
    never.set()
    assert {fits.job(fit_id).status for fit_id in four} == {"done"}


def test_a_batch_ends_without_a_worker_that_lost_its_node(fits, monkeypatch):
    monkeypatch.setattr("train_jobs.supervisor._STARTS_S", 1.0)
    first, second = fits.queue("anna"), fits.queue("ben")
    goes_on, never = threading.Event(), threading.Event()

    def work(task, monitor):
        assert goes_on.wait(WAIT_S)
        return small_fit(task, monitor)

    def run(rank):
        if rank == 1:
            goes_on.set()  # the first has been seen at work, or this one would not be asked for
        fits.worker(first if rank == 0 else second, rank=rank, work=work).run()
        if rank == 0:
            never.wait()  # for another node: a run of Ray Train does so by itself

    assert not supervised(fits.platform.state.jobs, fits.spec(first, second), run, most=2)
    never.set()
    assert {fits.job(fit_id).status for fit_id in (first, second)} == {"done"}


@pytest.mark.parametrize("charged", [False, True], ids=["taken back", "charged"])
def test_a_worker_that_lost_its_node_says_that_it_waits(fits, monkeypatch, charged):
    monkeypatch.setattr("train_jobs.supervisor._STARTS_S", 1.0)
    fit_id, jobs = fits.queue("anna"), fits.platform.state.jobs
    said = threading.Event()

    def run(rank):
        with pytest.raises(WorkerDied):
            fits.worker(fit_id, rank=rank, work=dying_at(2)).run()
        if charged:
            _, claim = running_jobs(jobs, fits.spec(fit_id))[fit_id]
            jobs.fail(claim, Problem(code="worker-died", detail="killed"), retry=True)
        else:
            take_back(jobs, fits.spec(fit_id))
        while fits.tenant not in jobs.wanting("fit", within_s=10, rests=False):
            threading.Event().wait(0.05)
        said.set()
        fits.worker(fit_id, rank=rank, generation="g1").run()

    assert supervised(jobs, fits.spec(fit_id), run, most=1)
    assert said.is_set()
    assert fits.job(fit_id).status == "done"


def test_a_worker_that_gets_a_place_by_chance_leaves_it_to_a_tenant_that_has_none(fits, stack, state, tmp_path):
    first, second = fits.queue("anna", steps=5), fits.queue("ben")
    with pytest.raises(WorkerDied):
        fits.worker(first, work=dying_at(3)).run()  # as far as anybody knows, it is at work
    other = Fits(Platform(stack), TenantId(f"other-{uuid.uuid4().hex[:8]}"), tmp_path / "other")
    state.accounts.create_tenant(other.tenant)
    other.folder.mkdir()
    waiting = other.queue("carl")
    state.jobs.want_place("fit", other.tenant, rests=False)
    assert fits.worker(second, rank=1).run() == 0
    assert other.worker(waiting).run() == 1
    assert fits.worker(second, rank=1).run() == 1


def test_a_worker_whose_gpu_breaks_takes_no_other_fit_and_charges_none(fits):
    first, second = fits.queue("anna"), fits.queue("ben")

    def work(task, monitor):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def probe():
        raise RuntimeError("CUDA error: the device is lost")

    with pytest.raises(RenderBackendUnavailable, match="the device is lost"):
        fits.worker(first, second, work=work, probe=probe).run()
    jobs = [fits.job(fit_id) for fit_id in (first, second)]
    assert [(job.status, job.attempt, job.num_put_off) for job in jobs] == [("queued", 0, 1), ("queued", 0, 0)]


def test_a_worker_that_cannot_start_ends_its_batch_with_its_reason(fits):
    fit_id = fits.queue("anna")

    def run(rank):
        raise ClusterUnavailable("worker", "a GPU", "none")

    with pytest.raises(ClusterUnavailable, match="expected a GPU"):
        supervised(fits.platform.state.jobs, fits.spec(fit_id), run, most=8)
    assert fits.job(fit_id).status == "queued"


def test_a_worker_that_starts_later_leaves_alone_what_the_others_are_at(fits):
    first, second = fits.queue("anna", steps=5), fits.queue("ben", steps=5)
    for rank, fit_id in enumerate((first, second)):
        with pytest.raises(WorkerDied):
            fits.worker(fit_id, rank=rank, work=dying_at(3)).run()  # as far as anybody knows, it is still at it
    scratch = fits.folder / "scratch"
    for fit_id in (first, second):
        (scratch / f"{fit_id}-{fits.job(fit_id).fence}").mkdir(parents=True, exist_ok=True)
    spec = fits.spec(first, second)
    assert take_back(fits.platform.state.jobs, spec, rank=1, keep_generation="g1") == 1
    fits.worker(first, second, rank=1, generation="g1").clean()
    assert [fits.job(fit_id).status for fit_id in (first, second)] == ["running", "queued"]
    assert [folder.name for folder in scratch.iterdir()] == [f"{first}-{fits.job(first).fence}"]


class Place:
    """The only place of a cluster: who has waited longest has it next."""

    def __init__(self):
        self._change, self._queue = threading.Condition(), []

    @contextlib.contextmanager
    def held_by(self, name):
        with self._change:
            self._queue.append(name)
            assert self._change.wait_for(lambda: self._queue[0] == name, WAIT_S)
        try:
            yield
        finally:
            with self._change:
                self._queue.pop(0)
                self._change.notify_all()

    def is_awaited_by(self, name):
        with self._change:
            return name in self._queue[1:]


def test_two_tenants_take_turns_at_the_only_place_and_one_that_is_alone_keeps_it(stack, state, tmp_path, monkeypatch):
    monkeypatch.setattr("train_jobs.supervisor._STARTS_S", 0.0)
    place, order, starts = Place(), [], Counter()
    tenants = {letter: TenantId(f"turns-{letter}-{uuid.uuid4().hex[:8]}") for letter in "ab"}
    queued = {}

    def batch(letter, other, num_fits):
        state.accounts.create_tenant(tenants[letter])
        fits = Fits(Platform(stack), tenants[letter], tmp_path / letter)
        fits.folder.mkdir()
        ids = queued[letter] = [fits.queue(f"{letter}{number}") for number in range(num_fits)]

        def work(task, monitor):
            order.append(letter)
            while not (place.is_awaited_by(other) and says(other)) and (other not in queued or num_queued(other)):
                threading.Event().wait(0.01)  # until the other tenant waits for the place, or has all it wants
            return small_fit(task, monitor)

        def run(rank):
            starts[letter] += 1
            with place.held_by(letter):
                fits.worker(*ids, rank=rank, work=work, generation=f"g{starts[letter]}").run()

        found = Future()
        jobs, spec = fits.platform.state.jobs, fits.spec(*ids)
        threading.Thread(target=lambda: found.set_result(run_in_steps(jobs, spec, run, most=1)), daemon=True).start()
        return found

    def num_queued(letter):
        return state.jobs.backlog("fit", tenant=tenants[letter]).num_queued

    def says(letter):
        return tenants[letter] in state.jobs.wanting("fit", within_s=10, rests=True)

    first = batch("a", "b", 4)
    while not order:
        threading.Event().wait(0.01)
    second = batch("b", "a", 2)
    assert first.result(WAIT_S)
    assert second.result(WAIT_S)
    assert order == ["a", "b", "a", "b", "a", "a"]
    assert starts == {"a": 3, "b": 2}
