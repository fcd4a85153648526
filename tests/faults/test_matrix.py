"""The matrix of faults: a part of a deployment breaks at a named step; afterwards all is true.

make test-faults            each cell at one step
FULL=1 make test-faults     each cell at every step
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow import MlflowClient

from cluster.control.champions import Champions
from cluster.ids import AliasRef, ModelRef
from tests.faults.site import LEASE_S, Order, Site, full, stopped, until
from tests.faults.truth import check_truth
from tests.support.serve import register

# Importing Ray Serve warns about its own use of pydantic, and it lets go of sockets only when its process ends.
pytestmark = [
    pytest.mark.cell,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FULL = os.environ.get("FULL") == "1"
LONG_S = 30.0  # of speech: a render that is still at work when the fault comes
OUTAGE_S = LEASE_S + 3.0  # longer than a lease
SHORT_S = 4.0  # of speech: a render that comes to its end while the fault lasts


def steps(first: str, *others: str) -> list[str]:
    """The steps of a cell: one, or all of them."""
    return [first, *others] if FULL else [first]


def pause(seconds: float) -> None:
    """Let a fault last; nothing tells that it has lasted long enough."""
    threading.Event().wait(seconds)


@contextlib.contextmanager
def render_at(site: Site, step: str) -> Iterator[Order]:
    """A render that has come to a step: loading, rendering."""
    tenant, headers = site.new_tenant()
    order = site.order(tenant, headers, seconds=LONG_S)
    until(lambda: site.render(order).get("stage") == step, f"the render to be at {step}", pause_s=0.01)
    yield order


@contextlib.contextmanager
def broken(site: Site, name: str, how: str) -> Iterator[None]:
    """A service that is broken in one way while the block runs."""
    getattr(site.proxies[name], how)()
    try:
        yield
    finally:
        site.proxies[name].heal()


# -- processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", steps("rendering", "loading"))
def test_replica_killed(site, step):
    with render_at(site, step):
        os.kill(site.working_replica(), signal.SIGKILL)
    check_truth(site)


@pytest.mark.parametrize("step", steps("rendering", "loading"))
def test_replica_stopped_for_longer_than_a_lease(site, step):
    with render_at(site, step) as order, stopped(site.working_replica()):
        until(lambda: site.render(order).get("attempt") == 2, "another replica to take the render over")
    check_truth(site)


@pytest.mark.parametrize("step", steps("rendering", "loading"))
def test_ingress_killed(site, step):
    with render_at(site, step):
        (pid,) = site.pids("ingress")
        os.kill(pid, signal.SIGKILL)
        until(lambda: site.pids("ingress") - {pid}, "another ingress")
    check_truth(site)


@pytest.mark.parametrize("step", steps("rendering", "loading"))
def test_ingress_stopped_for_longer_than_a_lease(site, step):
    with render_at(site, step):
        (pid,) = site.pids("ingress")
        with stopped(pid):
            pause(OUTAGE_S)
    check_truth(site)


@contextlib.contextmanager
def upload_at_a_stopped_decoder(site: Site) -> Iterator[set[int]]:
    """An upload that waits for decoders which stand still; they go on when the block ends."""
    tenant, headers = site.new_tenant()
    pids = until(lambda: site.pids("decoder"), "a decoder to wait for uploads")
    with ThreadPoolExecutor(1) as pool:
        with contextlib.ExitStack() as still:
            for pid in pids:
                still.enter_context(stopped(pid))
            ordered = pool.submit(site.order, tenant, headers, seconds=SHORT_S)
            until(lambda: list(site.tmp.glob("upload-*/upload-audio")), "the upload to be read")
            yield pids
        ordered.result()


@pytest.mark.parametrize("step", steps("decoding"))
def test_decoder_killed(site, step):
    with upload_at_a_stopped_decoder(site) as pids:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    check_truth(site)


@pytest.mark.parametrize("step", steps("decoding"))
def test_decoder_stopped_for_longer_than_a_lease(site, step):
    with upload_at_a_stopped_decoder(site):
        pause(OUTAGE_S)
    check_truth(site)


# -- the keeper -----------------------------------------------------------------------------------------------


def promote_next(site: Site) -> ModelRef:
    """Make a second version the champion, of which the model registry is to be told."""
    tenant, _ = site.new_tenant()
    ref = register(site.services, tenant, site.identity, promote=False)
    Champions(site.services.state).move(ref)
    return ref


def check_promotion(site: Site, ref: ModelRef) -> None:
    """The state store, the API and the model registry name the same champion."""
    assert site.services.state.champions.resolve(AliasRef(ref.tenant, ref.identity)) == ref
    shown = MlflowClient(registry_uri=site.services_url["mlflow"], tracking_uri=site.services_url["mlflow"])

    def same() -> bool:
        return int(shown.get_model_version_by_alias(ref.registry_name, "champion").version) == ref.version

    until(same, "the model registry to show the champion", pause_s=0.3)


@pytest.mark.parametrize("step", steps("promoting"))
def test_keeper_killed(site, step):
    with site.another_keeper():
        for pid in site.pids("keeper"):
            os.kill(pid, signal.SIGKILL)
        check_promotion(site, promote_next(site))
    site.start_keeper()
    check_truth(site)


@pytest.mark.parametrize("step", steps("promoting"))
def test_keeper_stopped_for_longer_than_a_lease(site, step):
    with site.another_keeper(), contextlib.ExitStack() as stack:
        for pid in site.pids("keeper"):
            stack.enter_context(stopped(pid))
        first = promote_next(site)
        check_promotion(site, first)
        stack.close()  # the old keeper goes on, and must not write what it knew
        check_promotion(site, first)
        check_promotion(site, promote_next(site))
    check_truth(site)


# -- services -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["refuse", "stall", "cut"])
@pytest.mark.parametrize("name", ["redis", "s3"])
@pytest.mark.parametrize("step", steps("rendering", "loading", "creating"))
def test_service(site, name, how, step):
    tenant, headers = site.new_tenant()
    if step == "creating":
        with ThreadPoolExecutor(1) as pool:
            with broken(site, name, how):
                ordered = pool.submit(site.order, tenant, headers, seconds=SHORT_S)
                pause(OUTAGE_S)
            ordered.result()
    else:
        order = site.order(tenant, headers, seconds=SHORT_S)
        until(lambda: site.render(order).get("stage") == step, f"the render to be at {step}", pause_s=0.01)
        with broken(site, name, how):
            pause(OUTAGE_S)
    check_truth(site)


@pytest.mark.parametrize("how", ["refuse", "stall", "cut"])
@pytest.mark.parametrize("step", steps("promoting", "creating"))
def test_model_registry(site, how, step):
    tenant, headers = site.new_tenant()
    ref = register(site.services, tenant, site.identity, promote=False)
    with broken(site, "mlflow", how):
        if step == "promoting":
            Champions(site.services.state).move(ref)
        order = site.order(tenant, headers, seconds=SHORT_S)  # serving goes on meanwhile
        until(lambda: site.render(order).get("status") == "done", "a video without the model registry")
    if step == "promoting":
        check_promotion(site, ref)
    check_truth(site)


# -- disks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disks(site):
    if not site.mounted:
        pytest.skip("a small disk cannot be mounted here")


@pytest.mark.usefixtures("small_disks")
@pytest.mark.parametrize("step", steps("loading"))
def test_disk_of_the_node_cache_full(site, step):
    tenant, headers = site.new_tenant()
    with full(site.cache):
        order = site.order(tenant, headers, seconds=SHORT_S)
        until(lambda: site.render(order)["attempt"], "a replica to try")
        pause(OUTAGE_S)
    check_truth(site)


@pytest.mark.usefixtures("small_disks")
@pytest.mark.parametrize("step", steps("decoding"))
def test_disk_of_the_decoder_full(site, step):
    tenant, headers = site.new_tenant()
    with ThreadPoolExecutor(1) as pool:
        with full(site.tmp):
            ordered = pool.submit(site.order, tenant, headers, seconds=SHORT_S)
            pause(OUTAGE_S)
            assert not ordered.done()
        ordered.result()
    check_truth(site)
