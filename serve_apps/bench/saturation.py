"""How much of the engine's throughput the service passes on when there is always something to do."""

from __future__ import annotations

import os
import time
from typing import Any

from m2dao.errors import ServiceError
from serve_apps.bench.client import ApiClient
from serve_apps.bench.engine import LARGE, bare_renders, make_identity, make_speech
from serve_apps.bench.site import Say, Site

NUM_RENDERS = 20
_SPEECH_S = 6.0
_NUM_BEFORE = 10  # more than the cores of this machine do within the time that the autoscaler aims at
_NUM_BARE = 4  # before, and as many after: what else the machine does changes meanwhile


def measure_saturation(site: Site, *, say: Say) -> dict[str, Any]:
    """Queue all renders at once and see the last one done; replicas have been added before."""
    identity = make_identity(site.folder / "anna", LARGE)
    speech = make_speech(_SPEECH_S)
    client = site.new_tenant("saturation", identity)
    say("renders until all replicas run that there will be")
    _done(client, [client.must_ask(speech).body["id"] for _ in range(_NUM_BEFORE)])

    def engine_alone() -> list[float]:
        taken_s = bare_renders(identity, speech, _NUM_BARE, num_threads=os.cpu_count() or 1)
        say(f"the engine alone makes {_NUM_BARE * _SPEECH_S / sum(taken_s):.2f} s of video a second")
        return taken_s

    bare_s = engine_alone()
    say(f"{NUM_RENDERS} renders of {_SPEECH_S:g} s")
    began = time.monotonic()
    asked = [client.must_ask(speech).body["id"] for _ in range(NUM_RENDERS)]
    say(f"all accepted after {time.monotonic() - began:.1f} s")
    _done(client, asked)
    service = NUM_RENDERS * _SPEECH_S / (time.monotonic() - began)
    say(f"the service makes {service:.2f} s of video a second with {len(site.replica_pids())} replicas")
    bare_s += engine_alone()
    engine = len(bare_s) * _SPEECH_S / sum(bare_s)
    return {"throughput_ratio": round(service / engine, 3), "num_renders": NUM_RENDERS}


def _done(client: ApiClient, renders: list[str]) -> None:
    """Wait until all renders are done.

    Raises:
        ServiceError: one ended otherwise.
    """
    for render_id in renders:
        render = client.wait(render_id, timeout_s=600)
        if render["status"] != "done":
            raise ServiceError(f"render {render_id}", "done", f"{render['status']}: {render['error']}")
