"""Looks at the services behind the API, within a second, however long they take to answer.

Each service is asked in a thread of its own, one question at a time: a service that hangs holds that one thread. An
answer is used again for a moment, so nobody can make us ask more often by asking us more often.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from cluster.platform import Platform
from cluster.stack.services import http_ok
from m2dao.errors import RegistryUnavailable, UnderMaintenance
from serve_apps.api.decode import UploadDecoder

ANSWER_S = 0.7  # how long a service has to answer
_FRESH_S = 0.5  # how long an answer is used
_DECODERS = "decoders"
_ACCEPTANCE = "acceptance"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What does not answer.

    Args:
        missing: why nothing can be accepted.
        degraded: what else is not as it should be; renders go on.
        under_maintenance: whether an operator lets nothing new in.
    """

    missing: list[str]
    degraded: list[str]
    under_maintenance: bool


class _Part:
    """One service, asked one question at a time."""

    def __init__(self, name: str, check: Callable[[], object]):
        self._check = check
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"ready-{name}")
        self._asked: Future[object] | None = None
        self._asked_at = 0.0

    def ask(self) -> Future[object]:
        now = time.monotonic()
        if self._asked is None or (self._asked.done() and now - self._asked_at > _FRESH_S):
            self._asked, self._asked_at = self._thread.submit(self._check), now
        return self._asked


class Readiness:
    """Whether renders can be accepted.

    Args:
        needed: name -> a function that raises when the service does not answer; nothing works without it.
        wanted: the same for services without which renders go on.
        contain: starts the decoders and returns what their containment lacks; raises when they may not run so. It
            may take its time: until then uploads wait.
        accepts: raises ``UnderMaintenance`` when an operator lets nothing new in.
        answer_s: how long each has.
    """

    def __init__(
        self,
        needed: Mapping[str, Callable[[], object]],
        wanted: Mapping[str, Callable[[], object]],
        contain: Callable[[], list[str]],
        accepts: Callable[[], object] = lambda: None,
        *,
        answer_s: float = ANSWER_S,
    ):
        self._needed, self._wanted = list(needed), list(wanted)
        checks = {**needed, **wanted, _DECODERS: contain, _ACCEPTANCE: accepts}
        self._parts = {name: _Part(name, check) for name, check in checks.items()}
        self._answer_s = answer_s

    @classmethod
    def of(cls, platform: Platform, decoder: UploadDecoder) -> Readiness:
        """For the services of a platform: renders need the state store and the object store."""
        parts = urlsplit(platform.settings.require("mlflow.url"))
        url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], f"{parts.path}/health", "", ""))

        def registry() -> None:
            if not http_ok(url):
                raise RegistryUnavailable("model registry", f"an answer of {url}", "none")

        needed = {"state store": platform.state.check, "object store": platform.store.check}
        return cls(needed, {"model registry": registry}, decoder.start, platform.state.maintenance.check)

    async def look(self) -> Report:
        """Ask every service, and wait no longer than ``answer_s``."""
        asked = {name: asyncio.wrap_future(part.ask()) for name, part in self._parts.items()}
        for future in asked.values():  # also those that nobody waits for in the end have had their error looked at
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait(asked.values(), timeout=self._answer_s)
        silent = [name for name, future in asked.items() if not future.done() or future.exception() is not None]
        missing = [f"no answer of the {name}" for name in self._needed if name in silent]
        degraded = [name for name in self._wanted if name in silent]
        decoders = asked[_DECODERS]
        if decoders.done():
            error = decoders.exception()
            if error is not None:
                missing.append(str(error))
            elif decoders.result():
                degraded.append("containment of decoders")
        accepts = asked[_ACCEPTANCE]
        closed = accepts.done() and isinstance(accepts.exception(), UnderMaintenance)
        return Report(missing=missing, degraded=degraded, under_maintenance=closed)
