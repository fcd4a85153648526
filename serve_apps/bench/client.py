"""The render API as a client that keeps time uses it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from m2dao.errors import ServiceError

_OPEN = ("queued", "running")
_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a request for a render."""

    status: int
    body: dict[str, Any]
    sent_at_s: float  # Unix time
    sent_s: float  # by the monotonic clock
    answered_s: float

    @property
    def accepted(self) -> bool:
        return self.status == 202

    @property
    def seconds(self) -> float:
        """From the first byte sent to the whole answer."""
        return self.answered_s - self.sent_s


class ApiClient:
    """A tenant's client; threads may share it.

    Args:
        url: of the API.
        key: the tenant's.
        identity: what it asks for.
    """

    def __init__(self, url: str, key: str, identity: str):
        self.url, self.key, self.identity = url, key, identity
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S, limits=limits, trust_env=False)
        self._http.get("/healthz")  # a client's first request loads what all others find loaded

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def read(self, path: str) -> tuple[int, float]:
        """The status of ``GET path``, and the seconds until its whole answer was there."""
        sent_s = time.monotonic()
        status = self._http.get(path).status_code
        return status, time.monotonic() - sent_s

    def ask(self, speech: bytes, *, identity: str = "") -> Answer:
        """Ask for a video of this speech, a WAV file, spoken by ``identity`` or else the client's own."""
        files, data = {"audio": ("speech.wav", speech, "audio/wav")}, {"identity": identity or self.identity}
        sent_at_s, sent_s = time.time(), time.monotonic()
        try:
            answer = self._http.post("/v1/renders", files=files, data=data)
            answered_s, status = time.monotonic(), answer.status_code
            is_json = "json" in answer.headers.get("content-type", "")
            body = answer.json() if is_json else {"detail": answer.text}
        except httpx.HTTPError as error:
            answered_s, status, body = time.monotonic(), 0, {"detail": repr(error)}
        return Answer(status=status, body=body, sent_at_s=sent_at_s, sent_s=sent_s, answered_s=answered_s)

    def must_ask(self, speech: bytes, *, identity: str = "") -> Answer:
        """``ask``, where a refusal makes the figures worthless.

        Raises:
            ServiceError: the request was not accepted.
        """
        answer = self.ask(speech, identity=identity)
        if not answer.accepted:
            raise ServiceError("request for a render", "to be accepted", f"{answer.status}: {answer.body}")
        return answer

    def render(self, render_id: str) -> dict[str, Any]:
        """How far a render is; empty while the API does not say."""
        try:
            answer = self._http.get(f"/v1/renders/{render_id}")
        except httpx.HTTPError:
            return {}
        return dict(answer.json()) if answer.status_code == 200 else {}

    def readiness_s(self) -> float:
        """Seconds that ``/readyz`` takes to answer, whatever it says."""
        began = time.monotonic()
        self._http.get("/readyz")
        return time.monotonic() - began

    def cancel(self, render_id: str) -> None:
        """End a render; one that has ended stays as it is."""
        self._http.delete(f"/v1/renders/{render_id}")

    def wait(self, render_id: str, *, timeout_s: float = 300.0, pause_s: float = 0.05) -> dict[str, Any]:
        """The render when it has ended, however it did.

        Raises:
            ServiceError: it does not end in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            render = self.render(render_id)
            if render and render["status"] not in _OPEN:
                return render
            if time.monotonic() > deadline:
                raise ServiceError(f"render {render_id}", f"to end within {timeout_s:g} s", str(render.get("status")))
            time.sleep(pause_s)


def seconds_in_service(render: dict[str, Any]) -> float:
    """From the moment a render was accepted to its end, by the clock of the state store."""
    accepted, ended = (datetime.fromisoformat(render[name]) for name in ("created_at", "updated_at"))
    return (ended - accepted).total_seconds()


def seconds_until_done(answer: Answer, render: dict[str, Any]) -> float:
    """From sending a request to the end of its render, where the state store has the same clock as we."""
    return datetime.fromisoformat(render["updated_at"]).timestamp() - answer.sent_at_s
