"""What must be true after any fault: nothing accepted is lost, doubled or damaged, nothing is left."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from cluster.control.janitor import GRACE, Janitor
from cluster.ids import ModelRef, RenderId, TenantId
from cluster.state import keys
from m2dao.identity.talker import Talker
from m2dao.media.video import read_frames
from serve_apps.tickets import render_prefix
from tests.faults.breaking import until
from tests.faults.site import BELLA, Fit, Order, Site

FINISHED = ("done", "failed", "cancelled")
_SCRATCH = ("render-*", "upload-*", "m2dao-fits-*/*")  # temporary folders of work


def check_truth(site: Site) -> None:
    """Every promise, for all that was asked for since the last look."""
    for order in site.orders:
        if not order.id:
            site.ask_until_accepted(order)
    for order in site.orders:
        render = until(lambda order=order: _ended(site, order), f"render {order.id} to end")
        assert render["status"] == "done", render
        _check_video(site, order, render)
    for fit in site.fits:
        until(lambda fit=fit: site.job(fit).finished, f"fit {fit.id} to end", pause_s=0.3)
        _check_fit(site, fit)
    _check_lists(site)
    for left, what in (
        (_left_on_disk, "nothing half-written on the node"),
        (_still_counted, "no open job, lease or slot"),
        (_shown_otherwise, "the model registry to show what is true"),
        (Site.amiss, "every part to run again"),
    ):
        _eventually(lambda left=left: left(site), what)
    _check_stores(site)
    _eventually(lambda: _not_ready(site), "to be ready")


def scratch_of(site: Site) -> list[Path]:
    """The temporary folders of work that there are on the node."""
    return [path for pattern in _SCRATCH for path in site.tmp.glob(pattern)]


# -- results --------------------------------------------------------------------------------------------------


def _ended(site: Site, order: Order) -> dict[str, Any] | None:
    render = site.shown(order)
    return render if render and render["status"] in FINISHED else None


def _check_video(site: Site, order: Order, render: dict[str, Any]) -> None:
    """The video is there, whole, as long as its sound, and what the API says it is."""
    result = render["result"]
    answer = httpx.get(result["url"], trust_env=False, timeout=60)  # through the proxy, as everybody
    assert answer.status_code == 200, answer.text
    assert len(answer.content) == result["num_bytes"]
    assert hashlib.sha256(answer.content).hexdigest() == result["sha256"]
    path = site.home / "looked-at.mp4"
    path.write_bytes(answer.content)
    num_frames = sum(1 for _ in read_frames(path))
    assert num_frames == render["figures"]["num_frames"] == round(25 * order.seconds)
    path.unlink()


def _check_fit(site: Site, fit: Fit) -> None:
    """The fit made one version, which counts, is whole and can be loaded."""
    job = site.job(fit)
    assert (job.status, job.attempt <= job.max_attempts) == ("done", True), job
    ref = ModelRef(fit.tenant, BELLA, 1 if job.result is None else ModelRef.parse(job.result["ref"]).version)
    (identity,) = site.services.state.champions.identities(fit.tenant)
    assert (identity.identity, identity.versions) == (BELLA, (ref.version,))
    with tempfile.TemporaryDirectory() as folder:
        site.services.registry.download(ref, Path(folder) / "bella")  # verifies every byte
        assert Talker.load(Path(folder) / "bella").size == 64


def _check_lists(site: Site) -> None:
    """The API lists what was asked for: none twice, and none that nobody asked for."""
    for tenant, headers in {order.tenant: order.headers for order in site.orders}.items():
        answer = site.client.get("/v1/renders?limit=100", headers=headers)
        assert answer.status_code == 200, answer.text
        listed = answer.json()["renders"]
        ours = [order.id for order in site.orders if order.tenant == tenant]
        assert sorted(render["id"] for render in listed) == sorted(ours)
        assert {render["status"] for render in listed} == {"done"}


# -- what is left ---------------------------------------------------------------------------------------------


def _left_on_disk(site: Site) -> list[str]:
    """Temporary files of work that is over, and half of an identity."""
    partial = [path for path in site.cache.rglob("*") if ".partial" in path.name or path.name.startswith(".")]
    return [str(path) for path in (*scratch_of(site), *partial)]


def _still_counted(site: Site) -> list[str]:
    """What the state store still counts as under way."""
    state, found = site.services.state, []
    for kind in ("render", "fit"):
        backlog = state.jobs.backlog(kind)
        if any(vars(backlog).values()):
            found.append(f"{kind}: {backlog}")
    for tenant in _tenants(site):
        found += [f"{name} of {tenant}" for name in ("uploads", "places") if _num_slots(site, tenant, name)]
    return found


def _num_slots(site: Site, tenant: TenantId, name: str) -> int:
    return int(site.services.state._link.call("ZCARD", keys.slots(tenant, name)))


def _shown_otherwise(site: Site) -> list[str]:
    """Identities whose versions and champion MLflow shows otherwise than they are."""
    champions, ledger = site.services.state.champions, site.services.registry.ledger
    shown: dict[tuple[TenantId, Any], dict[int, str]] = {}
    for info, state in ledger.versions():
        shown.setdefault((info.ref.tenant, info.ref.identity), {})[info.ref.version] = state
    wrong = []
    for tenant in _tenants(site):
        for identity in champions.identities(tenant):
            entry, true = ledger.identity(tenant, identity.identity), champions.get(tenant, identity.identity)
            ready = {n for n, state in shown.get((tenant, identity.identity), {}).items() if state == "ready"}
            if entry is None or entry.champion.version != true.version or ready != set(identity.versions):
                wrong.append(f"{tenant}.{identity.identity}: {entry} instead of {true}, ready {ready}")
    return wrong


def _check_stores(site: Site) -> None:
    """Nothing is stored that nobody needs, once the janitor has come by; it takes only what is a day old."""
    if _left_in_stores(site):
        services = site.services
        tomorrow = datetime.now(UTC) + GRACE + timedelta(hours=1)
        Janitor(services.state, services.store, services.registry, now=lambda: tomorrow).clean()
    left = _left_in_stores(site)
    assert not left, left


def _left_in_stores(site: Site) -> list[str]:
    """Objects and registered versions of the tenants that no result names."""
    named: set[str] = set()
    for order in site.orders:
        job = site.job(order)
        assert job.result is not None
        assert job.result["key"].startswith(render_prefix(order.tenant, RenderId.parse(order.id)))
        named |= {job.result["key"], *(job.request[name] for name in ("audio_key", "sound_key") if name in job.request)}
    left = []
    for tenant in _tenants(site):
        versions = tuple(
            f"{tenant}/identities/{found.identity}/{number}/"
            for found in site.services.state.champions.identities(tenant)
            for number in found.versions
        )
        stored = [
            info.key
            for folder in ("renders", "fits", "ray-train", "identities")
            for info in site.services.store.list(f"{tenant}/{folder}/")
        ]
        left += [key for key in stored if key not in named and not key.startswith(versions)]
    return left + [
        str(info.ref)
        for info, state in site.services.registry.ledger.versions()
        if state != "ready" and info.ref.tenant in _tenants(site)
    ]


def _not_ready(site: Site) -> list[str]:
    try:
        answer = site.client.get("/readyz", timeout=5)
    except httpx.HTTPError as error:
        return [repr(error)]
    whole = answer.status_code == 200 and not answer.json().get("degraded")
    return [] if whole else [answer.text]


def _tenants(site: Site) -> set[TenantId]:
    return {what.tenant for what in (*site.orders, *site.fits)}


def _eventually(left: Callable[[], list[str]], what: str) -> None:
    found: list[str] = []

    def gone() -> bool:
        found[:] = left()
        return not found

    try:
        until(gone, what, pause_s=0.3)
    except AssertionError as error:
        raise AssertionError(f"{error}; there is {found[:10]}") from None
