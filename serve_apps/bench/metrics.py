"""What Prometheus fetches while a service renders: how large its pages are, and how long each takes."""

from __future__ import annotations

import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from cluster.stack.home import StackHome
from m2dao.errors import ServiceError
from serve_apps.bench.client import ApiClient
from serve_apps.bench.engine import SMALL, make_identity, make_speech
from serve_apps.bench.figures import percentile_ms
from serve_apps.bench.site import Say, Site

_NUM_TENANTS = 3
_SPEECH_S = 4.0
_PAUSE_S = 0.2
_TIMEOUT_S = 60.0
_SETTLE_S = 15.0  # processes tell Ray's agent every ten seconds
_OURS = ("m2dao_", "ray_m2dao_")
# The page is that of this machine, whatever proxies the environment names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(kw_only=True)
class _Page:
    """One page, as it was fetched."""

    url: str
    seconds: list[float] = field(default_factory=list)
    text: str = ""

    def fetch(self) -> None:
        began = time.monotonic()
        with _opener.open(self.url, timeout=_TIMEOUT_S) as answer:
            self.text = answer.read().decode()
        self.seconds.append(time.monotonic() - began)

    def figures(self) -> dict[str, Any]:
        series = [line for line in self.text.splitlines() if line and not line.startswith("#")]
        return {
            "bytes": len(self.text.encode()),
            "series": len(series),
            "our_series": sum(line.startswith(_OURS) for line in series),
            "p50_ms": percentile_ms(self.seconds, 50),
            "p99_ms": percentile_ms(self.seconds, 99),
        }


def measure_metrics(site: Site, *, num_scrapes: int, say: Say) -> dict[str, Any]:
    """Fetch both pages again and again while three tenants have renders done without a pause."""
    identity, speech = make_identity(site.folder / "anna", SMALL), make_speech(_SPEECH_S)
    clients = [site.new_tenant(f"metrics{number}", identity) for number in range(_NUM_TENANTS)]
    home = StackHome(site.settings.home)
    pages = {
        "keeper": _Page(url=f"http://127.0.0.1:{home.ports()['keeper']['metrics']}/metrics"),
        "ray": _Page(url=f"http://127.0.0.1:{home.ports()['ray']['metrics']}/metrics"),
    }
    over = threading.Event()

    def render(client: ApiClient) -> int:
        num_done = 0
        while not over.is_set():
            done = client.wait(client.must_ask(speech).body["id"])
            if done["status"] != "done":
                raise ServiceError(f"render {done['id']}", "done", f"{done['status']}: {done['error']}")
            num_done += 1
        return num_done

    with ThreadPoolExecutor(_NUM_TENANTS) as threads:
        rendering = [threads.submit(render, client) for client in clients]
        try:
            time.sleep(_SETTLE_S)
            for index in range(num_scrapes):
                for page in pages.values():
                    page.fetch()
                time.sleep(_PAUSE_S)
                if index % 50 == 0:
                    say(f"{index} of {num_scrapes} scrapes")
        finally:
            over.set()
        num_renders = sum(each.result() for each in rendering)
    return {
        "scrapes": num_scrapes,
        "renders": num_renders,
        **{f"{name}_{what}": value for name, page in pages.items() for what, value in page.figures().items()},
    }
