"""What must be true after any fault: nothing accepted is lost, doubled or damaged, nothing is left."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

from m2dao.media.video import read_frames
from serve_apps.tickets import render_prefix
from tests.faults.site import LEASE_S, Order, Site, _render_id, until

_CLEAN_S = 30.0  # how long leases and janitors have, once all has ended


def check_truth(site: Site) -> None:
    """Every promise, for all that was ordered since the last look."""
    orders, site.orders = site.orders, []
    for order in orders:
        if not order.id:
            site.ask_until_accepted(order)
    renders = [until(lambda order=order: _ended(site, order), f"render {order.id} to end") for order in orders]
    for order, render in zip(orders, renders, strict=True):
        assert render["status"] == "done", render
        _check_video(site, order, render)
    for tenant, headers in {order.tenant: order.headers for order in orders}.items():
        listed = site.client.get("/v1/renders?limit=100", headers=headers).json()["renders"]
        ours = [order.id for order in orders if order.tenant == tenant]
        assert sorted(render["id"] for render in listed) == sorted(ours)  # none twice, none that nobody asked for
        assert {render["status"] for render in listed} <= {"done"}
    _eventually(lambda: _left_in_store(site, orders), "nothing half-written in the object store")
    _eventually(lambda: _left_on_disk(site), "nothing half-written on the node")
    _eventually(lambda: _still_counted(site), "no open job, lease or slot")
    assert site.client.get("/readyz").status_code == 200


def _ended(site: Site, order: Order) -> dict[str, Any] | None:
    render = site.render(order)
    return render if render and render["status"] not in ("queued", "running") else None


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


def _left_in_store(site: Site, orders: Iterable[Order]) -> list[str]:
    """Objects of the tenants' renders that no finished render names."""
    named: set[str] = set()
    for order in orders:
        job = site.services.state.jobs.get(order.tenant, _render_id(order))
        assert job.result is not None
        named |= {job.result["key"], job.request["audio_key"]}
        assert job.result["key"].startswith(render_prefix(order.tenant, _render_id(order)))
    tenants = {order.tenant for order in orders}
    return [
        info.key
        for tenant in tenants
        for info in site.services.store.list(f"{tenant}/renders/")
        if info.key not in named
    ]


def _left_on_disk(site: Site) -> list[str]:
    """Temporary files of work that is over."""
    patterns = ("render-*", "upload-*", "decode-*", "m2dao-fits-*/*")
    left = [path for pattern in patterns for path in site.tmp.glob(pattern)]
    left += [path for path in site.cache.rglob("*") if ".partial" in path.name or path.name.startswith(".")]
    return [str(path) for path in left if not _is_pool(path)]


def _is_pool(path: Path) -> bool:
    """Whether a folder is of something that is running, and meant to stay: empty until it has work."""
    return path.is_dir() and not any(path.iterdir())


def _still_counted(site: Site) -> list[str]:
    """What the state store still counts as under way."""
    state = site.services.state
    return [f"{kind}: {found}" for kind in ("render", "fit") if _any_of(found := state.jobs.backlog(kind))]


def _any_of(backlog: Any) -> bool:
    return bool(backlog.num_queued or backlog.num_running or backlog.queued_cost)


def _eventually(left: Any, what: str) -> None:
    found: list[str] = []

    def gone() -> bool:
        found[:] = left()
        return not found

    try:
        until(gone, what, wait_s=_CLEAN_S + 2 * LEASE_S, pause_s=0.3)
    except AssertionError as error:
        raise AssertionError(f"{error}; there is {found[:10]}") from None
