"""Fits as real Ray jobs with real Ray Train workers, which are killed."""

from __future__ import annotations

import pytest

from cluster.compute.jobs import RayJobs
from cluster.control.fit_requests import FitOptions
from cluster.control.fits import FitService
from cluster.platform import Platform
from m2dao.errors import ClusterUnavailable, Conflict
from tests.support.fits import Fits
from tests.support.processes import LOOPBACK_ADDRESSES, listening_addresses, processes_of

WORK = "tests.support.small_work:small_fit"
OPTIONS = FitOptions(protocols=("paper",))


@pytest.fixture(scope="module")
def service(ray_stack):
    platform = Platform(ray_stack)
    return FitService(
        state=platform.state,
        store=platform.store,
        cluster=RayJobs(ray_stack),
        work=WORK,
        job_flags=["--steps-every-s", "0"],
    )


@pytest.fixture
def fits(ray_stack, tenant, tmp_path):
    return Fits(Platform(ray_stack), tenant, tmp_path)


def test_killed_workers_cost_only_the_fit_they_were_at(service, fits, tenant, stack_home):
    """One fit kills its worker once and one kills every worker it gets; their neighbour loses nothing."""
    recordings = [
        fits.recording("poison", die_at=2, deaths=100, steps=40),  # more than it has attempts
        fits.recording("unlucky", die_at=3, deaths=1, steps=5),
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
    assert "from 3" in fits.events("unlucky")
    assert (neighbour.status, neighbour.attempt) == ("done", 1)
    refs = {job.result["ref"] for job in (unlucky, neighbour)}
    assert refs == {f"{tenant}.unlucky@1", f"{tenant}.neighbour@1"}
    assert ("neighbour", "fit") in stages  # its progress was seen on the way
    assert addresses <= LOOPBACK_ADDRESSES  # workers open no port to others
    runs = {info.identity.name for info in fits.platform.state.champions.identities(tenant)}
    assert runs == {"unlucky", "neighbour"}


def test_a_lost_ray_job_is_noticed_and_resumed_where_it_was(service, fits, tenant, ray_stack):
    # The fit stays at step 2 until its job is stopped; resumed, it is past that step.
    batch = service.submit(tenant, [fits.recording("anna", steps=4, stay_at=2)], OPTIONS)
    (fit_id,) = batch.fit_ids

    def stop_at_step_2():
        for job in service.follow(batch):
            if job.stage == "fit: step 2":
                with pytest.raises(Conflict, match="no Ray job at it"):
                    service.resume(tenant, [fit_id])
                RayJobs(ray_stack).stop(batch.submission_id)

    with pytest.raises(ClusterUnavailable, match=f"m2dao-train resume --tenant {tenant} {fit_id}"):
        stop_at_step_2()
    (again,) = service.resume(tenant, [fit_id])
    assert again.submission_id != batch.submission_id
    for _ in service.follow(again):
        pass
    job = fits.job(fit_id)
    assert job.status == "done"
    assert job.result["resumed"]
    begun = [event for event in fits.events("anna") if event.startswith(("from", "prepare"))]
    assert begun == ["prepare", "from 0", "from 2"]
    (identity,) = fits.platform.state.champions.identities(tenant)
    assert identity.versions == (1,)
    with pytest.raises(Conflict, match="not done"):
        service.resume(tenant, [fit_id])
