"""Fits as real Ray jobs with real Ray Train workers, which are killed; and the trace of one."""

from __future__ import annotations

import json
import threading

import pytest

from cluster.cli import main
from cluster.compute.jobs import RayJobs
from cluster.control.fit_controller import FitController
from cluster.control.fit_requests import FitOptions
from cluster.control.fits import FitService
from cluster.keeper.keeper import Keeper
from cluster.platform import Platform
from tests.faults.breaking import until
from tests.support.fits import Fits
from tests.support.processes import LOOPBACK_ADDRESSES, listening_addresses, processes_of
from tests.support.stack import cancel_open_jobs, reaching
from tests.support.telemetry.spans import own_spans

WORK = "tests.support.small_work:small_fit"
OPTIONS = FitOptions(protocols=("paper",))
pytestmark = pytest.mark.cell


@pytest.fixture(scope="module")
def platform(ray_stack):
    return Platform(reaching(ray_stack, traces_files="true"))


@pytest.fixture(scope="module")
def service(platform):
    return FitService(state=platform.state, store=platform.store)


class Starting:
    """The keeper's chore that starts fits, with small work."""

    name = "fits"

    def __init__(self, platform):
        flags = ["--steps-every-s", "0"]
        self._controller = FitController(platform.state.jobs, RayJobs(platform.settings), work=WORK, job_flags=flags)

    def do(self, lease):
        self._controller.start(lease.check)
        return 0.5


@pytest.fixture(scope="module", autouse=True)
def keeper(platform):
    """A keeper that starts fits."""
    cancel_open_jobs(platform.state, *platform.state.accounts.list_tenants())
    stop = threading.Event()
    thread = threading.Thread(target=Keeper(platform.state.seats, [Starting(platform)]).run, args=(stop,))
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.fixture
def fits(ray_stack, tenant, tmp_path):
    return Fits(Platform(ray_stack), tenant, tmp_path)


def test_killed_workers_cost_only_the_fit_they_were_at(service, fits, tenant, stack_home):
    """One fit kills its worker once and one kills every worker it gets; their neighbour loses nothing."""
    recordings = [
        fits.recording("poison", die_at=2, deaths=100, steps=40),  # more than it has attempts
        fits.recording("unlucky", die_at=6, deaths=1, steps=8, pause_s=0.5),
        fits.recording("neighbour", pause_s=0.5, steps=6),
    ]
    batch = service.submit(tenant, recordings, OPTIONS)
    stages, addresses = set(), set()
    for job in service.follow(batch):
        stages.add((job.request["identity"], job.stage.split(":")[0]))
        addresses |= listening_addresses(processes_of(stack_home, ["ray"]))
    poison, unlucky, neighbour = (fits.job(fit_id) for fit_id in batch.fit_ids)

    assert (poison.status, poison.attempt, poison.error.code) == ("failed", 3, "worker-died")
    assert unlucky.status == "done"
    assert unlucky.result["resumed"]
    begun = [event for event in fits.events("unlucky") if event.startswith("from")]
    assert begun[0] == "from 0"
    assert begun[-1] != "from 0"  # which copy was the last to arrive depends on the machine
    assert (neighbour.status, neighbour.attempt) == ("done", 1)
    refs = {job.result["ref"] for job in (unlucky, neighbour)}
    assert refs == {f"{tenant}.unlucky@1", f"{tenant}.neighbour@1"}
    assert ("neighbour", "fit") in stages  # its progress was seen on the way
    assert addresses <= LOOPBACK_ADDRESSES  # workers open no port to others
    runs = {info.identity.name for info in fits.platform.state.champions.identities(tenant)}
    assert runs == {"unlucky", "neighbour"}


def test_a_fit_whose_ray_job_is_lost_goes_on_where_it_was_by_itself_in_one_trace(
    service, fits, tenant, platform, capsys, monkeypatch
):
    # The fit stays at step 1 until its job is stopped, which is once that step is stored; begun again, it is past it.
    with own_spans() as here:
        batch = service.submit(tenant, [fits.recording("anna", steps=4, stay_at=1)], OPTIONS)
        (accepted,) = here.wait(lambda spans: [span for span in spans if span.name == "accept"], within_s=60)
    (fit_id,) = batch.fit_ids
    ray, stopped = RayJobs(platform.settings), False
    for job in service.follow(batch):
        if job.stage == "fit: step 1" and not stopped and list(fits.platform.store.list(f"{tenant}/fits/")):
            ray.stop(ray.last(job.request["batch"]))
            stopped = True
    job = fits.job(fit_id)
    assert job.status == "done"
    assert job.result["resumed"]
    begun = [event for event in fits.events("anna") if event.startswith(("from", "prepare"))]
    assert begun == ["prepare", "from 0", "from 1"]
    (identity,) = fits.platform.state.champions.identities(tenant)
    assert identity.versions == (1,)

    monkeypatch.setenv("M2DAO_HOME", str(platform.settings.home))

    def whole() -> dict | None:
        """The trace, once the last Ray job has told of itself, which takes some seconds."""
        capsys.readouterr()
        code = main(["trace", str(fit_id), "--json"])
        told = json.loads(capsys.readouterr().out)
        found = {span["name"] for span in told.get("spans", ())}
        return told if code == 0 and {"ray job", "attempt", "prepare", "fit", "register", "commit"} <= found else None

    told = until(whole, "the fit's trace in the files")
    assert told["trace_id"] == accepted.trace
    tries = [span["attributes"]["m2dao.attempt"] for span in told["spans"] if span["name"] == "attempt"]
    assert max(tries) == job.attempt
