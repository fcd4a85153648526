"""Clients' own names for orders that are one thing however often they are asked for, such as fits."""

from __future__ import annotations

from cluster.ids import JobId, TenantId, parse_job_id
from cluster.state import keys, scripts
from cluster.state.link import RedisLink
from cluster.state.new_jobs import IDEMPOTENCY_S, Once, idempotency_digest
from m2dao.errors import IdempotencyConflict


class Orders:
    """What clients' own names for orders have led to. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink):
        self._link = link

    def bind(self, tenant: TenantId, kind: str, once: Once) -> JobId | None:
        """Bind a name to an order; returns the job that it led to, None when it has led to none yet.

        Raises:
            IdempotencyConflict: the name was used for another order.
        """
        key = keys.idempotency(tenant, idempotency_digest(kind, once.key))
        outcome, job_id = self._link.run(scripts.CLAIM_KEY, [key], [once.fingerprint, IDEMPOTENCY_S])
        if outcome != "bound":
            expected = "the request it was first used for"
            raise IdempotencyConflict("idempotency key", expected, "another request", "use a new key")
        return parse_job_id(job_id) if job_id else None

    def note(self, tenant: TenantId, kind: str, once: Once, job_id: JobId) -> None:
        """Note which job a name has led to."""
        self._link.call("HSET", keys.idempotency(tenant, idempotency_digest(kind, once.key)), "job", str(job_id))
