"""How much longer a render takes by the service than by the engine alone."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from m2dao.errors import ServiceError
from serve_apps.bench.client import ApiClient, seconds_in_service, seconds_until_done
from serve_apps.bench.engine import SMALL, bare_renders, make_identity, make_speech
from serve_apps.bench.figures import percentile_ms
from serve_apps.bench.site import Say, Site

_SPEECH_S = 0.4  # short: what a render itself varies by must not hide the rest
_NUM_WARM_UPS = 5
_PAUSE_S = 0.1
_NUM_BARE = 50  # before, and as many after


def measure_overhead(site: Site, *, num_requests: int, say: Say) -> dict[str, Any]:
    """One render after the other, from sending the request to the stored video, less a bare render."""
    identity = make_identity(site.folder / "anna", SMALL)
    speech = make_speech(_SPEECH_S)
    client = site.new_tenant("overhead", identity)

    def bare() -> list[float]:
        taken_s = bare_renders(identity, speech, _NUM_BARE, num_threads=site.settings.serve.render_threads)
        say(f"a bare render takes {1000 * statistics.median(taken_s):.0f} ms")
        return taken_s

    before_s = bare()
    taken = _rendered(client, speech, num_requests, say)
    bare_s = statistics.median(before_s + bare())  # what else the machine does changes meanwhile
    return _figures([each.until_done_s - bare_s for each in taken])


def measure_overhead_elsewhere(url: str, key: str, identity: str, *, num_requests: int, say: Say) -> dict[str, Any]:
    """The same of a deployment whose identity is not here: less what the service says that rendering took."""
    client = ApiClient(url, key, identity)
    taken = _rendered(client, make_speech(_SPEECH_S), num_requests, say)
    # Its clock is not ours, so the way of the answer to us counts twice.
    return _figures([each.accept_s + each.in_service_s - each.told_s for each in taken])


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """How long one render took."""

    accept_s: float  # from the request to the whole answer
    in_service_s: float  # from the moment it was accepted to its end, by the clock of the state store
    until_done_s: float  # from the request to the end, where we have the same clock
    told_s: float  # what the service says that fetching, rendering and storing took


def _rendered(client: ApiClient, speech: bytes, num_requests: int, say: Say) -> list[_Taken]:
    taken = []
    for index in range(_NUM_WARM_UPS + num_requests):
        answer = client.must_ask(speech)
        # Times are by the store's clock, so we look seldom: each look takes a part of the cores that we measure.
        render = client.wait(answer.body["id"], pause_s=_PAUSE_S)
        if render["status"] != "done":
            raise ServiceError(f"render {render['id']}", "done", f"{render['status']}: {render['error']}")
        if index >= _NUM_WARM_UPS:
            taken.append(
                _Taken(
                    accept_s=answer.seconds,
                    in_service_s=seconds_in_service(render),
                    until_done_s=seconds_until_done(answer, render),
                    told_s=render["figures"]["render_seconds"],
                )
            )
        if index % 50 == 0:
            say(f"{index} of {_NUM_WARM_UPS + num_requests} renders")
    for name, seconds in (
        ("accepting", [each.accept_s for each in taken]),
        (
            "from accepted to the first step of the worker, and from its last to the record",
            [each.in_service_s - each.told_s for each in taken],
        ),
        ("fetching, rendering and storing", [each.told_s for each in taken]),
    ):
        say(f"{name}: {percentile_ms(seconds, 50)} ms (median), {percentile_ms(seconds, 99)} ms (p99)")
    return taken


def _figures(overhead_s: list[float]) -> dict[str, Any]:
    return {
        "p50_ms": percentile_ms(overhead_s, 50),
        "p99_ms": percentile_ms(overhead_s, 99),
        "requests": len(overhead_s),
    }
