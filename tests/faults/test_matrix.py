"""The matrix of faults: a part of a deployment breaks at a named step; afterwards all is true.

make test-faults            each cell at one step
FULL=1 make test-faults     each cell at every step
"""

from __future__ import annotations

import contextlib
import os

import pytest

from cluster.control.champions import Champions
from tests.faults.breaking import cannot, full, kill, last, stopped, until
from tests.faults.keeper import LEASE_S
from tests.faults.steps import (
    SHORT_S,
    broken,
    check_promotion,
    fit_at,
    promote_next,
    render_at,
    second_version,
    upload_at_decoders,
    upload_during,
)
from tests.faults.truth import check_truth

# Importing Ray Serve warns about its own use of pydantic, and it lets go of sockets only when its process ends.
pytestmark = [
    pytest.mark.cell,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
OUTAGE_S = LEASE_S + 3.0  # longer than a lease


def steps(first: str, *others: str) -> pytest.MarkDecorator:
    """The steps of a cell: one, or all of them."""
    return pytest.mark.parametrize("step", [first, *others] if os.environ.get("FULL") == "1" else [first])


# -- processes ------------------------------------------------------------------------------------------------


@steps("rendering", "loading")
def test_replica_killed(site, step):
    with render_at(site, step) as order:
        kill({site.replica_at(order)})
    check_truth(site)


@steps("rendering", "loading")
def test_replica_stopped_for_longer_than_a_lease(site, step):
    with render_at(site, step) as order, stopped({site.replica_at(order)}):
        until(lambda: site.job(order).attempt == 2, "another replica to take the render over")
    check_truth(site)


@steps("rendering", "loading")
def test_ingress_killed(site, step):
    with render_at(site, step):
        old = site.pids("ingress")
        kill(old)
        until(lambda: site.pids("ingress") - old, "another ingress")
    check_truth(site)


@steps("rendering", "loading")
def test_ingress_stopped_for_longer_than_a_lease(site, step):
    with render_at(site, step), stopped(site.pids("ingress")):
        last(OUTAGE_S)
    check_truth(site)


@steps("decoding")
def test_decoder_killed(site, step):
    with upload_at_decoders(site) as (pids, _):
        kill(pids)
    check_truth(site)


@steps("decoding")
def test_decoder_stopped_for_longer_than_a_lease(site, step):
    with upload_at_decoders(site):
        last(OUTAGE_S)
    check_truth(site)


@steps("fitting", "registering")
def test_fit_worker_killed(site, step):
    with fit_at(site, step):
        kill(site.pids("fit worker"))
    check_truth(site)


@steps("fitting", "registering")
def test_fit_worker_stopped_for_longer_than_a_lease(site, step):
    jobs = site.services.state.jobs
    with fit_at(site, step) as fit, stopped(site.pids("fit worker")):

        def taken() -> bool:
            jobs.requeue_expired("fit")  # as any other worker does that looks for a fit
            return site.job(fit).status == "queued"

        until(taken, "the fit to be nobody's", pause_s=0.3)
    check_truth(site)


@steps("fitting", "registering")
def test_driver_killed(site, step):
    with fit_at(site, step):
        kill(site.pids("driver"))
    check_truth(site)


@steps("fitting", "registering")
def test_driver_stopped_for_longer_than_a_lease(site, step):
    with fit_at(site, step) as fit, stopped(site.pids("driver")):
        fit.go_on()
        last(OUTAGE_S)
    check_truth(site)


@steps("promoting", "queued")
def test_keeper_killed(site, step):
    with site.another_keeper():
        kill(site.pids("keeper"))
        if step == "promoting":
            check_promotion(site, promote_next(site))
        else:
            fit = site.fit()
            fit.go_on()
            until(lambda: site.job(fit).status != "queued", "the other keeper to start the fit")
    site.start_keeper()
    check_truth(site)


@steps("promoting")
def test_keeper_stopped_for_longer_than_a_lease(site, step):
    with site.another_keeper(), contextlib.ExitStack() as still:
        still.enter_context(stopped(site.pids("keeper")))
        ref = promote_next(site)
        check_promotion(site, ref)
        still.close()  # the old keeper goes on, and must not write what it knew
        check_promotion(site, promote_next(site))
        check_promotion(site, ref)
    check_truth(site)


# -- services -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["refuse", "stall", "cut"])
@pytest.mark.parametrize("name", ["redis", "s3"])
@steps("rendering", "creating", "fitting", "registering")
def test_service(site, name, how, step):
    if step == "creating":
        with upload_during(site, broken(site, name, how)):
            last(OUTAGE_S)
    elif step == "rendering":
        with render_at(site, step), broken(site, name, how):
            last(OUTAGE_S)
    else:
        with fit_at(site, step) as fit, broken(site, name, how):
            fit.go_on()
            last(OUTAGE_S)
    check_truth(site)


@pytest.mark.parametrize("how", ["refuse", "stall", "cut"])
@steps("promoting", "fitting")
def test_model_registry(site, how, step):
    if step == "fitting":
        with fit_at(site, step) as fit, broken(site, "mlflow", how):
            fit.go_on()
            last(OUTAGE_S)
    else:
        ref, headers = second_version(site)
        with broken(site, "mlflow", how):
            Champions(site.services.state).move(ref)
            order = site.order(ref.tenant, headers, seconds=SHORT_S)  # serving goes on meanwhile, with what was decided
            until(lambda: site.shown(order).get("status") == "done", "a video without the model registry")
            assert site.shown(order)["version"] == ref.version
        check_promotion(site, ref)
    check_truth(site)


# -- disks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disks(site):
    if not site.mounted:
        cannot("a small disk must be mounted for this cell, for which root (CAP_SYS_ADMIN) is needed")


@pytest.mark.usefixtures("small_disks")
@steps("loading")
def test_disk_of_the_node_cache_full(site, step):
    tenant, headers = site.new_tenant()
    with full(site.cache):
        order = site.order(tenant, headers, seconds=SHORT_S)
        until(lambda: site.job(order).num_put_off >= 2, "replicas to meet the full disk")
    check_truth(site)
    assert site.job(order).attempt == 1


@pytest.mark.usefixtures("small_disks")
@steps("fitting")
def test_disk_of_the_fit_worker_full(site, step):
    with contextlib.ExitStack() as disk:
        with fit_at(site, step) as fit:
            disk.enter_context(full(site.tmp))
        until(lambda: site.job(fit).num_put_off >= 2, "the worker to meet the full disk")
    check_truth(site)
    assert site.job(fit).attempt == 1


@pytest.mark.usefixtures("small_disks")
@steps("decoding", "uploading")
def test_disk_of_the_decoder_full(site, step):
    def refused() -> bool:
        return bool(site.orders) and bool(site.orders[-1].refusals)

    if step == "decoding":
        with upload_at_decoders(site) as (_, go_on), full(site.tmp):
            go_on()
            until(refused, "the decoder to meet the full disk")
    else:
        with upload_during(site, full(site.tmp)):
            until(refused, "the upload to meet the full disk")
    assert set(site.orders[-1].refusals) == {503}  # come again: the file is not at fault
    check_truth(site)
