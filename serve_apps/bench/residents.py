"""What it costs that a replica knows many people, and that very many are registered."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cluster.folders import put_folder
from cluster.ids import AliasRef, IdentityName, ModelRef, TenantId
from cluster.settings import MB
from cluster.stack import processes
from cluster.state.versions import VersionFacts
from m2dao.errors import ServiceError
from serve_apps.bench.client import ApiClient
from serve_apps.bench.engine import SMALL, make_identity, make_speech
from serve_apps.bench.figures import percentile_ms
from serve_apps.bench.site import Say, Site

_SPEECH_S = 0.2
_NUM_CLIENTS = 3
_NUM_RESOLVED = 2000
_TENANT = TenantId("residents")


def measure_residents(site: Site, *, num_identities: int, num_registered: int, say: Say) -> dict[str, Any]:
    """Let every identity speak once, look at the replicas' memory, and resolve champions at random.

    The versions are committed straight to the state store: the model registry, which only shows them, would take
    an hour for ten thousand. So the keeper, which tells it, is stopped.
    """
    site.stop_service("keeper")
    client = site.new_tenant(str(_TENANT))
    say(f"storing {num_identities} identities")
    stored = [_store(site, number) for number in range(num_identities)]
    before_mb = _rss_mb(site)
    say(f"the largest replica has {before_mb:.0f} MB; now each of them speaks")
    began = time.monotonic()
    with ThreadPoolExecutor(_NUM_CLIENTS) as pool:
        list(pool.map(lambda ref: _speak(client, ref), stored))
    rss_mb = _rss_mb(site)
    say(f"{num_identities} renders took {time.monotonic() - began:.0f} s; the largest replica has {rss_mb:.0f} MB")
    facts = site.platform.state.versions.facts(stored[0])
    say(f"registering {num_registered - num_identities} more")
    refs = [_commit(site, _ref(number), facts) for number in range(num_identities, num_registered)]
    resolve_s = _resolve(site, [*stored, *refs])
    return {
        "num_identities": num_identities,
        "rss_mb": round(rss_mb),
        "resolve_p99_ms": percentile_ms(resolve_s, 99),
    }


def _ref(number: int) -> ModelRef:
    return ModelRef(_TENANT, IdentityName(f"p{number}"), 1)


def _store(site: Site, number: int) -> ModelRef:
    """Store an identity of its own, as a fit leaves it, and make it the champion of its name."""
    folder = make_identity(site.folder / str(number), SMALL, seed=number)
    ref = _ref(number)
    files = put_folder(site.platform.store, ref.object_prefix, folder)
    return _commit(site, ref, VersionFacts(files_sha256=files.sha256, num_bytes=files.num_bytes))


def _commit(site: Site, ref: ModelRef, facts: VersionFacts) -> ModelRef:
    site.platform.state.versions.commit(ref, facts)
    site.promote(ref)
    return ref


def _speak(client: ApiClient, ref: ModelRef) -> None:
    answer = client.must_ask(make_speech(_SPEECH_S), identity=str(ref.identity))
    render = client.wait(answer.body["id"])
    if render["status"] != "done":
        raise ServiceError(f"render {render['id']}", "done", f"{render['status']}: {render['error']}")


def _rss_mb(site: Site) -> float:
    """Memory of the largest replica."""
    return max(processes.rss_bytes(pid) for pid in site.replica_pids()) / MB


def _resolve(site: Site, refs: list[ModelRef]) -> list[float]:
    """Seconds that each of some resolutions took, as an ingress makes them."""
    taken_s = []
    for ref in random.Random(0).choices(refs, k=_NUM_RESOLVED):
        began = time.perf_counter()
        found = site.platform.state.champions.resolve(AliasRef(ref.tenant, ref.identity))
        taken_s.append(time.perf_counter() - began)
        if found != ref:
            raise ServiceError(f"champion of {ref.registry_name}", str(ref), str(found))
    return taken_s
