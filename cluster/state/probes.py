"""Questions whether a version can be loaded and rendered, and their answers.

Whoever wants to promote asks. A replica that serves another version of the identity takes the question on, and then
has the new version warm. The keeper takes on what no replica has.
"""

from __future__ import annotations

import uuid

from cluster.ids import ModelRef, TenantId
from cluster.state import keys, scripts
from cluster.state.link import RedisLink

TOPIC = "probe"
_CLAIM_MS = 20_000  # after which somebody else may take on what somebody took on and did not answer
_STANDS_S = 120


class Probes:
    """All probes. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink):
        self._link = link

    def new_id(self) -> str:
        """A name for a question."""
        return uuid.uuid4().hex

    def ask(self, ref: ModelRef, probe: str) -> None:
        """Ask for a probe of a version; whoever listens to ``topic(...)`` hears of its answer."""
        names, words = [keys.probe(ref.tenant, probe), keys.PROBES], [str(ref.tenant), probe, str(ref), _STANDS_S]
        self._link.run(scripts.ASK_PROBE, names, words)

    def topic(self, ref: ModelRef, probe: str) -> str:
        """Where the answer is announced."""
        return keys.probe(ref.tenant, probe)

    def fault(self, ref: ModelRef, probe: str) -> str | None:
        """The answer: what is wrong with the version, empty where nothing is; None while there is no answer."""
        found = self._link.call("HGET", keys.probe(ref.tenant, probe), "fault")
        return None if found is None else str(found)

    def claim(self, tenant: TenantId, probe: str, by: str) -> ModelRef | None:
        """Take on a probe; None when somebody else has, or it is answered."""
        found = self._link.run(scripts.CLAIM_PROBE, [keys.probe(tenant, probe)], [by, _CLAIM_MS])
        return ModelRef.parse(found) if found else None

    def answer(self, tenant: TenantId, probe: str, by: str, fault: str, *, backend: str) -> None:
        """Say what a probe has shown; empty for no fault. Only the word of who has it now counts."""
        words = [str(tenant), probe, by, fault, backend]
        self._link.run(scripts.ANSWER_PROBE, [keys.probe(tenant, probe), keys.PROBES], words)

    def backend(self, ref: ModelRef, probe: str) -> str:
        """By what the frame of an answered probe was rendered; empty where an older release has answered."""
        return str(self._link.call("HGET", keys.probe(ref.tenant, probe), "backend") or "")

    def waiting(self, *, for_s: float) -> list[tuple[TenantId, str]]:
        """The questions without an answer that were asked at least ``for_s`` seconds ago."""
        seconds, microseconds = self._link.call("TIME")
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        self._link.call("ZREMRANGEBYSCORE", keys.PROBES, "-inf", now_ms - _STANDS_S * 1000)
        found = self._link.call("ZRANGEBYSCORE", keys.PROBES, "-inf", now_ms - round(for_s * 1000))
        pairs = (member.split("/") for member in found)
        return [(TenantId(tenant), probe) for tenant, probe in pairs]
