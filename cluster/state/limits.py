"""Limits: how often, and how many at once.

All of them forget by themselves, so a process that dies holding one blocks others for its time only.
"""

from __future__ import annotations

from cluster.ids import TenantId
from cluster.state import keys, scripts
from cluster.state.link import RedisLink, new_nonce
from m2dao.errors import InputError


class Limits:
    """Rates and slots of tenants. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink):
        self._link = link

    def take(self, tenant: TenantId, name: str, *, capacity: float, per_second: float, cost: float = 1.0) -> float:
        """Take ``cost`` from a bucket that holds ``capacity`` and refills at ``per_second``.

        Returns:
            0 when it was taken; else the seconds after which there is enough, and nothing was taken.
        """
        if not 0 < cost <= capacity or per_second <= 0:
            raise InputError(
                f"rate {name}", "0 < cost <= capacity and per_second > 0", f"{cost}, {capacity}, {per_second}"
            )
        names = [keys.rate(tenant, name), keys.answer(new_nonce())]
        return float(self._link.run(scripts.TAKE_FROM_BUCKET, names, [capacity, per_second, cost]))

    def hold(self, tenant: TenantId, name: str, holder: str, *, limit: int, ttl_s: float) -> bool:
        """Take one of ``limit`` slots for ``ttl_s``, or keep the one ``holder`` has; False when all are taken."""
        return bool(self._link.run(scripts.HOLD_SLOT, [keys.slots(tenant, name)], [holder, limit, round(ttl_s * 1000)]))

    def let_go(self, tenant: TenantId, name: str, holder: str) -> None:
        """Free the slot of ``holder``; nothing happens when it has none."""
        self._link.call("ZREM", keys.slots(tenant, name), holder)
