"""Whether uploads are accepted at once while renderers are busy, and refused at once beyond a quota."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from serve_apps.bench.client import Answer, ApiClient
from serve_apps.bench.engine import LARGE, make_identity, make_speech
from serve_apps.bench.figures import percentile_ms
from serve_apps.bench.site import Say, Site

NUM_TENANTS = 8
NUM_UPLOADS = 32
_SPEECH_S = 10.0
_BUSY_S = 120.0  # length of the renders that keep the replicas busy
_NUM_REFUSED = 20
_SETTLED_S = 10.0  # so long no further replica has begun: all are busy that there will be
_HOLD_BACK_S = 1.0  # how long a refused upload waits for its answer before it sends its body


def measure_uploads(site: Site, *, say: Say) -> dict[str, Any]:
    """Saturate the renderers by two tenants, then let eight others upload all at once."""
    identity = make_identity(site.folder / "anna", LARGE)
    say("registering an identity for each of ten tenants")
    busy = [site.new_tenant(f"busy{number}", identity) for number in range(2)]
    clients = [site.new_tenant(f"upload{number}", identity) for number in range(NUM_TENANTS)]
    for client in clients:  # a tenant's first request asks the registry
        client.cancel(client.must_ask(make_speech(0.2)).body["id"])
    open_renders = _saturate(busy, site.settings.serve.max_active_renders, say)
    try:
        return _measure(clients, busy[0], NUM_UPLOADS, say)
    finally:
        for client, render_id in open_renders:
            client.cancel(render_id)


def measure_uploads_elsewhere(
    url: str, keys: Sequence[str], identity: str, *, num_uploads: int = NUM_UPLOADS, say: Say
) -> dict[str, Any]:
    """Upload all at once to a deployment as it is; nobody is refused on purpose."""
    clients = [ApiClient(url, key, identity) for key in keys]
    try:
        return _measure(clients, None, num_uploads, say)
    finally:
        for client in clients:
            client.close()


def _saturate(busy: Sequence[ApiClient], num_each: int, say: Say) -> list[tuple[ApiClient, str]]:
    """Fill the quotas of some tenants with long renders, and wait until the replicas are at them."""
    speech = make_speech(_BUSY_S)
    asked = [(client, client.must_ask(speech).body["id"]) for client in busy for _ in range(num_each)]
    num_begun, since = 0, time.monotonic()
    while not num_begun or time.monotonic() - since < _SETTLED_S:
        now = sum(client.render(render_id).get("stage") == "rendering" for client, render_id in asked)
        if now != num_begun:
            num_begun, since = now, time.monotonic()
        time.sleep(0.2)
    say(f"{num_begun} replicas are rendering, {len(asked) - num_begun} renders wait")
    return asked


def _measure(clients: Sequence[ApiClient], full: ApiClient | None, num_uploads: int, say: Say) -> dict[str, Any]:
    speeches = [make_speech(_SPEECH_S, seed=seed) for seed in range(num_uploads)]
    start = threading.Barrier(num_uploads + (full is not None))

    def upload(number: int) -> Answer:
        start.wait()
        return clients[number % len(clients)].ask(speeches[number])

    def refused() -> list[float]:
        if full is None:
            return []
        start.wait()
        return [_refusal_s(full, speeches[0], say) for _ in range(_NUM_REFUSED)]

    with ThreadPoolExecutor(num_uploads + 1) as pool:
        refusals = pool.submit(refused)
        answers = list(pool.map(upload, range(num_uploads)))
        refuse_s = refusals.result()
    accept_s = [answer.seconds for answer in answers if answer.accepted]
    for number, answer in enumerate(answers):
        if answer.accepted:
            clients[number % len(clients)].cancel(answer.body["id"])
        else:
            say(f"not accepted: {answer.status} after {answer.seconds:.2f} s: {str(answer.body)[:200]}")
    return {
        "sent": num_uploads,
        "accepted": len(accept_s),
        "accept_p50_ms": percentile_ms(accept_s, 50) if accept_s else None,
        "accept_p99_ms": percentile_ms(accept_s, 99) if accept_s else None,
        "refuse_p99_ms": percentile_ms(refuse_s, 99) if refuse_s else None,
    }


def _refusal_s(client: ApiClient, speech: bytes, say: Say) -> float:
    """Seconds from the head of a request to its refusal; the body is held back as long as that may take."""
    edge = "m2dao-bench"
    head = (
        f'--{edge}\r\nContent-Disposition: form-data; name="identity"\r\n\r\n{client.identity}\r\n'
        f'--{edge}\r\nContent-Disposition: form-data; name="audio"; filename="speech.wav"\r\n\r\n'
    ).encode()
    body = head + speech + f"\r\n--{edge}--\r\n".encode()
    connection = http.client.HTTPConnection(urlsplit(client.url).netloc, timeout=120)
    try:
        connection.connect()
        began = time.monotonic()
        connection.putrequest("POST", "/v1/renders")
        connection.putheader("Authorization", f"Bearer {client.key}")
        connection.putheader("Content-Type", f"multipart/form-data; boundary={edge}")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        if not _answered(connection, _HOLD_BACK_S):
            connection.send(body)
        status = connection.getresponse().status
        taken_s = time.monotonic() - began
    finally:
        connection.close()
    if status != 429:
        say(f"a request beyond the quota was answered with {status}")
    return taken_s


def _answered(connection: http.client.HTTPConnection, timeout_s: float) -> bool:
    """Whether an answer begins to arrive in time."""
    import select

    readable, _, _ = select.select([connection.sock], [], [], timeout_s)
    return bool(readable)
