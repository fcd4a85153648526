"""Brings work to a named step, at which the matrix breaks something."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from cluster.control.champions import Champions
from cluster.ids import AliasRef, ModelRef
from tests.faults.breaking import stopped, until
from tests.faults.site import Fit, Order, Site
from tests.support.serve import register

LONG_S = 30.0  # of speech: a render that is still at work when the fault comes
SHORT_S = 4.0  # of speech: a render that comes to its end while the fault lasts
AT_GATE = "fit: step 3"


@contextlib.contextmanager
def broken(site: Site, name: str, how: str) -> Iterator[None]:
    """A service that is broken in one way while the block runs."""
    getattr(site.proxies[name], how)()
    try:
        yield
    finally:
        site.proxies[name].heal()


@contextlib.contextmanager
def render_at(site: Site, step: str, *, seconds: float = LONG_S) -> Iterator[Order]:
    """A render that is at a step: loading (which lasts until the block ends) or rendering."""
    with contextlib.ExitStack() as held:
        while True:  # a render may be past the step before we have seen it there
            tenant, headers = site.new_tenant()
            order = site.order(tenant, headers, seconds=seconds)
            if step == "loading":
                held.enter_context(broken(site, "s3", "stall"))
            if (
                until(lambda order=order: _come_to(site, order, step), f"a render to be at {step}", pause_s=0.005)
                == step
            ):
                break
            held.close()
        yield order


def _come_to(site: Site, what: Order | Fit, step: str) -> str:
    """The step, once the work is there; "past" when it has ended."""
    job = site.job(what)
    if job.finished:
        return "past"
    return step if job.status == "running" and job.stage == step else ""


@contextlib.contextmanager
def fit_at(site: Site, step: str) -> Iterator[Fit]:
    """A fit that is at a step, fitting or registering, until the block ends; then it goes on."""
    fit = site.fit()
    until(lambda: _come_to(site, fit, AT_GATE), "a fit to be at its third step", pause_s=0.02)
    if step == "fitting":
        yield fit
        fit.go_on()
        return
    with broken(site, "mlflow", "stall"):
        fit.go_on()
        until(lambda: _come_to(site, fit, "register"), "a fit to be registered", pause_s=0.02)
        yield fit


@contextlib.contextmanager
def upload_at_decoders(site: Site) -> Iterator[tuple[set[int], Callable[[], None]]]:
    """An upload that waits for decoders which stand still, and what lets them go on."""
    tenant, headers = site.new_tenant()
    pids = until(lambda: site.pids("decoder"), "a decoder to wait for uploads")
    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as still:
        still.enter_context(stopped(pids))
        ordered = pool.submit(site.order, tenant, headers, seconds=SHORT_S)
        until(lambda: list(site.tmp.glob("upload-*/speech.wav")), "the upload to be with the decoders")
        yield pids, still.close
        still.close()
        ordered.result()


@contextlib.contextmanager
def upload_during(site: Site, fault: AbstractContextManager[None]) -> Iterator[None]:
    """An upload that is sent while there is a fault, which ends with the block; in the end it is accepted."""
    tenant, headers = site.new_tenant()
    with ThreadPoolExecutor(1) as pool:
        with fault:
            ordered = pool.submit(site.order, tenant, headers, seconds=SHORT_S)
            yield
        ordered.result()


def second_version(site: Site) -> tuple[ModelRef, dict[str, str]]:
    """A version that could become champion, and the headers of its tenant's requests."""
    tenant, headers = site.new_tenant()
    with site.identity() as folder:
        return register(site.services, tenant, folder, promote=False), headers


def promote_next(site: Site) -> ModelRef:
    """Make a second version the champion, of which the model registry is to be told."""
    ref, _ = second_version(site)
    Champions(site.services.state).move(ref)
    return ref


def check_promotion(site: Site, ref: ModelRef) -> None:
    """The state store and the model registry come to name the same champion."""
    assert site.services.state.champions.resolve(AliasRef(ref.tenant, ref.identity)) == ref

    def shown() -> bool:
        entry = site.services.registry.ledger.identity(ref.tenant, ref.identity)
        return entry is not None and entry.champion.version == ref.version

    until(shown, "the model registry to show the champion", pause_s=0.3)
