"""What is lost, doubled and delayed when every replica is killed, or a service of the stack is away."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cluster.ids import RenderId, TenantId
from m2dao.errors import M2daoError
from serve_apps.bench.client import ApiClient
from serve_apps.bench.engine import SMALL, make_identity, make_speech
from serve_apps.bench.site import Say, Site
from serve_apps.tickets import render_prefix

_SPEECH_S = 4.0
_NUM_CLIENTS = 3
_END_S = 900.0  # how long an accepted render may take, outage included


@dataclass(frozen=True)
class Outage:
    """A service of the stack that is away for a while."""

    service: str
    seconds: float


@dataclass(frozen=True)
class _Done:
    """How one accepted render ended, and when we saw that."""

    render_id: str
    status: str
    seen_s: float


def measure_failover(site: Site, *, num_requests: int, outage: Outage | None, say: Say) -> dict[str, Any]:
    """Kill every replica amid requests; each accepted render must end with exactly one video."""
    client = site.new_tenant("failover")
    site.promote(site.register("failover", make_identity(site.folder / "anna", SMALL)))
    speech = make_speech(_SPEECH_S)
    client.wait(client.must_ask(speech).body["id"])
    num_begun = threading.Semaphore(0)

    def one(number: int) -> _Done | None:
        answer = client.ask(speech)
        num_begun.release()
        if not answer.accepted:
            say(f"request {number} was not accepted: {answer.status}")
            time.sleep(1.0)  # as a client does that was told to come back
            return None
        render = client.wait(answer.body["id"], timeout_s=_END_S)
        return _Done(answer.body["id"], render["status"], time.monotonic())

    with ThreadPoolExecutor(_NUM_CLIENTS) as pool:
        waiting = [pool.submit(one, number) for number in range(num_requests)]
        for _ in range(num_requests // 4):
            num_begun.acquire()
        killed_s = _kill(site, say)
        if outage is not None:
            killed_s = _be_away(site, outage, say)
        found = [future.result() for future in waiting]
    done = [it for it in found if it is not None]
    after = [it.seen_s for it in done if it.seen_s > killed_s and it.status == "done"]
    return {
        "recovery_s": round(min(after) - killed_s, 2) if after else None,
        "lost": sum(it.status != "done" for it in done),
        "doubled": sum(_num_videos(site, client, it.render_id) > 1 for it in done),
        "requests": len(done),
    }


def _kill(site: Site, say: Say) -> float:
    """Kill the replicas; returns when."""
    pids = site.replica_pids()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    say(f"killed {len(pids)} replicas")
    return time.monotonic()


def _be_away(site: Site, outage: Outage, say: Say) -> float:
    """Stop a service, wait, start it again; returns when it was back."""
    stack = site.stop_service(outage.service)
    say(f"{outage.service} is away for {outage.seconds:g} s")
    time.sleep(outage.seconds)
    stack.up(progress=say)  # those that run are left alone
    return time.monotonic()


def _num_videos(site: Site, client: ApiClient, render_id: str) -> int:
    """How many videos of a render are stored."""
    prefix = render_prefix(TenantId("failover"), RenderId.parse(render_id))
    try:
        return sum(info.key.endswith(".mp4") for info in site.platform.store.list(prefix))
    except M2daoError:
        return 0
