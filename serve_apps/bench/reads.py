"""How quickly much is read over the API, and whether times tell what answers do not."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cluster.ids import FitId, IdentityName, ModelRef, RecordingId, RenderId, TenantId
from cluster.state.people.principals import Scope
from cluster.state.resources.recordings import RoomFor
from cluster.state.store import StateStore
from cluster.state.versions import VersionDetails, VersionFacts
from m2dao.errors import ServiceError
from serve_apps.bench.client import ApiClient
from serve_apps.bench.figures import percentile_ms
from serve_apps.bench.site import Site

_TENANT, _OTHER = TenantId("readers"), TenantId("strangers")
_THREADS = 8
_FACTS = VersionFacts(files_sha256="0" * 64, num_bytes=1)
Say = Callable[[str], None]


def measure_reads(site: Site, *, num_identities: int, num_renders: int, num_requests: int, say: Say) -> dict[str, Any]:
    """Times of reads by one client, over lists and single things in turn."""
    client = _reader(site, _TENANT)
    try:
        renders = _fill(site.platform.state, num_identities, num_renders, say)
        paths = itertools.cycle(_paths(num_identities, renders))
        seconds = [_timed(client, next(paths), 200) for _ in range(num_requests)]
    finally:
        client.close()
    return {
        "p50_ms": percentile_ms(seconds, 50),
        "p99_ms": percentile_ms(seconds, 99),
        "requests": num_requests,
        "num_identities": num_identities,
        "num_renders": num_renders,
    }


def measure_matrix(site: Site, *, num_requests: int, say: Say) -> dict[str, Any]:
    """Times of 404 for what is another tenant's and for what is nobody's, asked for in turn."""
    site.platform.state.accounts.create_tenant(_TENANT)
    other = _reader(site, _OTHER)
    try:
        (render, *_) = _fill(site.platform.state, 1, 1, say)
        fit = site.platform.state.jobs.create(_TENANT, "fit", {"identity": "p0"})[0].id
        site.platform.state.jobs.cancel(_TENANT, fit)
        room = RoomFor(num_bytes=1, num_uploads=1, upload_s=3600)
        recordings = site.platform.state.recordings
        recording = recordings.create(_TENANT, name="a.mp4", num_bytes=1, sha256="0" * 64, room=room).id
        pairs = {
            "/v1/renders": (str(render), str(RenderId.new())),
            "/v1/fits": (str(fit), str(FitId.new())),
            "/v1/identities": ("p0", "nobody"),
            "/v1/recordings": (str(recording), str(RecordingId.new())),
        }
        rows = [_compared(other, route, *pair, num_requests=num_requests) for route, pair in pairs.items()]
    finally:
        other.close()
    return {"largest_difference": max(row["difference"] for row in rows), "requests": num_requests, "routes": rows}


def _reader(site: Site, tenant: TenantId) -> ApiClient:
    """A client of a new tenant that may read everything of its tenant."""
    accounts = site.platform.state.accounts
    accounts.create_tenant(tenant)
    key = accounts.create_api_key(tenant, scopes=(Scope.OPERATOR, Scope.CLIENT))
    return ApiClient(site.url, key, "p0")


def _compared(client: ApiClient, route: str, foreign: str, unknown: str, *, num_requests: int) -> dict[str, Any]:
    times: dict[str, list[float]] = {foreign: [], unknown: []}
    for _ in range(num_requests):
        for name in times:
            times[name].append(_timed(client, f"{route}/{name}", 404))
    one, two = (statistics.median(times[name]) for name in (foreign, unknown))
    return {
        "route": route,
        "foreign_p50_ms": round(1000 * one, 3),
        "unknown_p50_ms": round(1000 * two, 3),
        "difference": round(abs(one - two) / two, 3),
    }


def _timed(client: ApiClient, path: str, status: int) -> float:
    answered, seconds = client.read(path)
    if answered != status:
        raise ServiceError(f"GET {path}", f"to answer {status}", str(answered))
    return seconds


def _paths(num_identities: int, renders: list[RenderId]) -> Iterator[str]:
    """Reads of every kind, spread over all there is; ends after a few hundred."""
    for number in range(100):
        name = f"p{number * num_identities // 100}"
        render = renders[number * len(renders) // 100]
        yield f"/v1/identities?limit=100&after={name}"
        yield f"/v1/identities/{name}"
        yield f"/v1/identities/{name}/versions"
        yield f"/v1/identities/{name}/champion"
        yield "/v1/renders"
        yield f"/v1/renders/{render}"
        yield "/v1/fits"
        yield "/v1/recordings"


def _fill(state: StateStore, num_identities: int, num_renders: int, say: Say) -> list[RenderId]:
    """Identities with a champion, and renders that have ended."""

    def identity(number: int) -> None:
        ref = ModelRef(_TENANT, IdentityName(f"p{number}"), 1)
        state.versions.commit(ref, _FACTS, details=VersionDetails(ref=ref, metrics={"psnr_db": 30.0}))
        state.champions.promote(ref)

    def render(number: int) -> RenderId:
        name = f"p{number % num_identities}"
        request = {
            "identity": name,
            "ref": f"{_TENANT}.{name}@1",
            "audio_seconds": 1.0,
            "background": {"kind": "plate"},
        }
        job, _ = state.jobs.create(_TENANT, "render", request)
        state.jobs.cancel(_TENANT, job.id)
        return RenderId.parse(str(job.id))

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(identity, range(num_identities)))
        say(f"{num_identities} identities are there")
        renders = list(pool.map(render, range(num_renders)))
    say(f"{num_renders} renders have ended")
    return renders
