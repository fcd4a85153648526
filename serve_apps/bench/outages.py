"""What becomes of renders, requests and readiness while a service behind the API is away."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cluster.stack import processes
from cluster.stack.home import StackHome
from serve_apps.bench.client import ApiClient
from serve_apps.bench.engine import SMALL, make_identity, make_speech
from serve_apps.bench.site import Say, Site

CASES = (
    ("s3", "refuses"),
    ("s3", "stalls"),
    ("redis", "refuses"),
    ("redis", "stalls"),
    ("mlflow", "refuses"),
    ("mlflow", "stalls"),
)
_NUM_RENDERS = 6
_NUM_REQUESTS = 10
_SPEECH_S = 20.0
_END_S = 900.0


def measure_outages(site: Site, *, seconds: float, say: Say) -> dict[str, Any]:
    """Six renders run when a service goes away; those that end otherwise than done are lost.

    With MLflow away, which no render needs, requests for renders of a warm identity are timed as well.
    """
    client = site.new_tenant("outages", make_identity(site.folder / "anna", SMALL))
    client.wait(client.must_ask(make_speech(1.0)).body["id"])
    found = {}
    for service, how in CASES:
        found[f"{service}_{how}"] = _away(site, client, service, how, seconds)
        say(f"{service} {how} for {seconds:g} s: {found[f'{service}_{how}']}")
    return found


def _away(site: Site, client: ApiClient, service: str, how: str, seconds: float) -> dict[str, Any]:
    speech = make_speech(_SPEECH_S)
    ids = [client.must_ask(speech).body["id"] for _ in range(_NUM_RENDERS)]
    _until_rendering(client, ids)
    figures: dict[str, Any] = {}
    accepted: list[str] = []
    with site.away(service) if how == "refuses" else _stalled(site, service):
        until = time.monotonic() + seconds
        if service == "mlflow":
            answers = [client.ask(make_speech(0.5)) for _ in range(_NUM_REQUESTS)]
            accepted = [answer.body["id"] for answer in answers if answer.accepted]
            figures["accepted"] = len(accepted)
            figures["accept_max_ms"] = round(1000 * max(answer.seconds for answer in answers), 1)
        figures["readyz_max_ms"] = round(1000 * max(client.readiness_s() for _ in range(_NUM_REQUESTS)), 1)
        threading.Event().wait(max(0.0, until - time.monotonic()))
    with ThreadPoolExecutor(len(ids) + len(accepted)) as pool:
        ended = list(pool.map(lambda each: client.wait(each, timeout_s=_END_S)["status"], [*ids, *accepted]))
    return {"requests": len(ended), "lost": sum(status != "done" for status in ended), **figures}


def _until_rendering(client: ApiClient, ids: list[str]) -> None:
    """Wait until one of the renders has begun; the others wait behind it."""
    while not any(client.render(each).get("status", "queued") != "queued" for each in ids):
        time.sleep(0.02)


@contextlib.contextmanager
def _stalled(site: Site, service: str) -> Iterator[None]:
    """A service of the stack takes connections and never answers."""
    home = StackHome(site.settings.home)
    pids = [process.pid for process in processes.find_members(home.mark(service), home.record(service))]
    _signal(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pids, signal.SIGCONT)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
