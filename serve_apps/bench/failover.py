"""What is lost, doubled and delayed when every replica is killed, or a service of the stack is away."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any

from cluster.ids import RenderId, TenantId
from m2dao.errors import ServiceError
from serve_apps.bench.client import ApiClient
from serve_apps.bench.engine import SMALL, make_identity, make_speech
from serve_apps.bench.site import Say, Site
from serve_apps.tickets import render_prefix

_SPEECH_S = 4.0
_NUM_CLIENTS = 3
_AGAIN_S = 1.0
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


class _Clients:
    """Some clients that each ask, wait for the video and ask again, until they are told to stop."""

    def __init__(self, client: ApiClient, say: Say):
        self._client, self._say = client, say
        self._speech = make_speech(_SPEECH_S)
        self._over, self._changed = threading.Event(), threading.Condition()
        self._done: list[_Done] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(_NUM_CLIENTS)]
        self.slowest_s = 0.0  # of the requests that were accepted

    def __enter__(self) -> _Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            answer = self._client.ask(self._speech)
            if not answer.accepted:
                self._over.wait(_AGAIN_S)  # as a client does that was told to come back
                continue
            try:
                status = self._client.wait(answer.body["id"], timeout_s=_END_S)["status"]
            except ServiceError as error:
                status = str(error)
            with self._changed:
                self.slowest_s = max(self.slowest_s, answer.seconds)
                self._done.append(_Done(answer.body["id"], status, time.monotonic()))
                self._changed.notify_all()

    def wait_for(self, num_done: int, *, since_s: float = 0.0) -> None:
        """Return once so many videos were seen done since a moment, or when that takes too long."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.videos(since_s)) >= num_done, timeout=_END_S)

    def videos(self, since_s: float) -> list[float]:
        """When videos were seen done since a moment."""
        return [it.seen_s for it in list(self._done) if it.status == "done" and it.seen_s > since_s]

    def stop(self) -> list[_Done]:
        """Let every client see the end of its render; returns all of them."""
        self.__exit__()
        self._say(f"the slowest request was accepted after {self.slowest_s:.2f} s")
        return self._done


def measure_failover(site: Site, *, num_requests: int, outage: Outage | None, say: Say) -> dict[str, Any]:
    """Kill every replica amid requests; each accepted render must end with exactly one video."""
    client = site.new_tenant("failover", make_identity(site.folder / "anna", SMALL))
    client.wait(client.must_ask(make_speech(_SPEECH_S)).body["id"])
    with _Clients(client, say) as clients:
        clients.wait_for(num_requests // 4)
        back_s = _kill(site, say)
        if outage is not None:
            say(f"{outage.service} goes away for {outage.seconds:g} s")
            with site.away(outage.service, say=say):
                time.sleep(outage.seconds)
            back_s = time.monotonic()
        clients.wait_for(1, since_s=back_s)
        clients.wait_for(num_requests)
        done = clients.stop()
    videos = {it.render_id: _num_videos(site, it.render_id) for it in done}
    for it in done:
        if it.status != "done":
            say(f"render {it.render_id}: {it.status}")
    after = clients.videos(back_s)
    return {
        "recovery_s": round(min(after) - back_s, 2) if after else None,
        "lost": sum(it.status != "done" or not videos[it.render_id] for it in done),
        "doubled": sum(number > 1 for number in videos.values()),
        "requests": len(done),
    }


def _kill(site: Site, say: Say) -> float:
    """Kill the replicas; returns when."""
    pids = site.replica_pids()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    say(f"killed {len(pids)} replicas")
    return time.monotonic()


def _num_videos(site: Site, render_id: str) -> int:
    """How many videos of a render are stored."""
    prefix = render_prefix(TenantId("failover"), RenderId.parse(render_id))
    return sum(info.key.endswith(".mp4") for info in site.platform.store.list(prefix))
