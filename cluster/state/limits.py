"""Limits and locks: how often, how many at once, and who alone.

All of them forget by themselves, so a process that dies holding one blocks others for its time only.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.ids import TenantId
from m2dao.errors import InputError, LockBusy

if TYPE_CHECKING:
    from cluster.state.store import RedisLink

# A token bucket: KEYS: bucket   ARGV: capacity, refill per second, cost
_TAKE = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local f = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local capacity, rate, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local tokens = capacity
if f[1] then tokens = math.min(capacity, tonumber(f[1]) + math.max(0, now - tonumber(f[2])) * rate) end
local wait = 0
if tokens >= cost then tokens = tokens - cost else wait = (cost - tokens) / rate end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.9g', tokens), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], math.ceil(capacity / rate) + 1)
return string.format('%.6f', wait)
"""

# KEYS: slots   ARGV: holder, limit, seconds
_HOLD = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
-- The key outlives its longest slot: a short one must not take the others with it.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
"""

_EXTEND = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A lock that is held; it ends by itself unless it is extended."""

    name: str
    token: str
    limits: Limits

    def extend(self, ttl_s: float) -> None:
        """Hold on for another ``ttl_s`` seconds from now.

        Raises:
            LockBusy: it ended, and may be somebody else's.
        """
        if not self.limits._link.run(_EXTEND, [self.name], [self.token, round(ttl_s * 1000)]):
            raise LockBusy(self.name, "to hold the lock still", "it ended", "start again")


class Limits:
    """Rates, slots and locks of tenants. See ``StateStore`` for what every method raises."""

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
        return float(self._link.run(_TAKE, [f"{tenant}:rate:{name}"], [capacity, per_second, cost]))

    def hold(self, tenant: TenantId, name: str, holder: str, *, limit: int, ttl_s: float) -> bool:
        """Take one of ``limit`` slots for ``ttl_s`` seconds, or keep the one ``holder`` has; False when all are taken."""
        return bool(self._link.run(_HOLD, [f"{tenant}:slots:{name}"], [holder, limit, round(ttl_s * 1000)]))

    def let_go(self, tenant: TenantId, name: str, holder: str) -> None:
        """Free the slot of ``holder``; nothing happens when it has none."""
        self._link.call("ZREM", f"{tenant}:slots:{name}", holder)

    @contextlib.contextmanager
    def lock(self, tenant: TenantId, name: str, *, ttl_s: float, wait_s: float = 0.0) -> Iterator[Lock]:
        """Be the only one inside, for at most ``ttl_s`` seconds.

        A lock with an end is no proof: a holder that stalls past the end is not alone any more. What is done under
        it must also check the state it changes (promotion compares the champion with the one it expects).

        Args:
            tenant: whose lock it is.
            name: which one, for example ``promote:anna``.
            ttl_s: when it ends by itself.
            wait_s: how long to wait for another holder.

        Raises:
            LockBusy: somebody else held it all the while.
        """
        key, token = f"{tenant}:lock:{name}", secrets.token_hex(16)
        deadline = time.monotonic() + wait_s
        while not self._link.call("SET", key, token, "NX", "PX", round(ttl_s * 1000)):
            if time.monotonic() >= deadline:
                raise LockBusy(key, "to be alone", "somebody else holds the lock", "try again later")
            time.sleep(0.05)
        try:
            yield Lock(name=key, token=token, limits=self)
        finally:
            self._link.run(_RELEASE, [key], [token])
