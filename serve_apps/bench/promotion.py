"""How soon a promotion is what clients get, and whether any request fails on the way."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from m2dao.errors import ServiceError
from serve_apps.bench.client import Answer, ApiClient
from serve_apps.bench.engine import SMALL, make_identity, make_speech
from serve_apps.bench.figures import percentile_ms
from serve_apps.bench.site import Say, Site

_NUM_CLIENTS = 2
_SPEECH_S = 0.2
_SEEN_S = 60.0  # how long a promotion may stay unseen


@dataclass
class _Log:
    """What the clients were answered, in the order of the answers."""

    answers: list[Answer] = field(default_factory=list)
    num_failed: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def first_of(self, version: int) -> float | None:
        """When the first answer came that named ``version``."""
        times = [it.answered_s for it in list(self.answers) if it.accepted and it.body["version"] == version]
        return min(times, default=None)


def measure_promotion(site: Site, *, num_promotions: int, say: Say) -> dict[str, Any]:
    """Promote new versions one after the other, each after its probe, while clients ask without a pause."""
    client = site.new_tenant("promotion")
    say(f"registering {1 + num_promotions} versions")
    refs = [
        site.register("promotion", make_identity(site.folder / str(seed), SMALL, seed=seed))
        for seed in range(1 + num_promotions)
    ]
    site.promote(refs[0])
    speech = make_speech(_SPEECH_S)
    client.wait(client.must_ask(speech).body["id"])
    log, taken_s = _Log(), []
    threads = [threading.Thread(target=_ask, args=(client, speech, log, say)) for _ in range(_NUM_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        for ref in refs[1:]:
            asked_s = time.monotonic()
            site.prove(ref)
            moved_s = time.monotonic()
            site.promote(ref)
            taken_s.append(_until_seen(log, ref.version, moved_s))
            say(f"version {ref.version}: probed {moved_s - asked_s:.2f} s, served {taken_s[-1]:.2f} s after the move")
    finally:
        log.over.set()
        for thread in threads:
            thread.join()
    return {
        "p50_ms": percentile_ms(taken_s, 50),
        "p99_ms": percentile_ms(taken_s, 99),
        "requests": len(log.answers),
        "failed_requests": log.num_failed,
    }


def _ask(client: ApiClient, speech: bytes, log: _Log, say: Say) -> None:
    """Ask again and again, each time waiting for the video; a request without one has failed."""
    while not log.over.is_set():
        answer = client.ask(speech)
        log.answers.append(answer)
        render = client.wait(answer.body["id"]) if answer.accepted else answer.body
        if render.get("status") != "done":
            log.num_failed += 1
            say(f"a request failed: {answer.status} {str(render)[:300]}")


def _until_seen(log: _Log, version: int, moved_s: float) -> float:
    while (seen_s := log.first_of(version)) is None:
        if time.monotonic() - moved_s > _SEEN_S:
            raise ServiceError(f"promotion of version {version}", f"to be seen within {_SEEN_S:g} s", "nothing")
        time.sleep(0.005)
    return max(0.0, seen_s - moved_s)
