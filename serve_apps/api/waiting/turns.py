"""Actions that take long, such as a promotion: a few at a time, and few of one tenant."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from cluster.ids import TenantId
from cluster.telemetry.scope import carried
from serve_apps.problems import ApiProblem

_AGAIN_S = 2
Result = TypeVar("Result")


class Turns:
    """Runs calls that block for long in threads of their own, so that they hold up each other only.

    Args:
        num_threads: calls at the same time; further ones wait.
        per_tenant: calls of one tenant at the same time, waiting ones included; further ones are refused.
    """

    def __init__(self, *, num_threads: int, per_tenant: int):
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="action")
        self._per_tenant = per_tenant
        self._running: Counter[TenantId] = Counter()

    async def run(self, tenant: TenantId, call: Callable[..., Result], *arguments: Any) -> Result:
        """Call something for a tenant.

        Raises:
            ApiProblem: 429, the tenant has too many under way.
        """
        if self._running[tenant] >= self._per_tenant:
            detail = f"at most {self._per_tenant} promotions, rollbacks, exports and deletions at the same time"
            raise ApiProblem("too-many-requests", detail, {"Retry-After": str(_AGAIN_S)})
        self._running[tenant] += 1
        done = self._threads.submit(carried(functools.partial(call, *arguments)))
        loop = asyncio.get_running_loop()
        # It counts until it has ended, also where nobody waits for it any more.
        done.add_done_callback(lambda _: loop.call_soon_threadsafe(self._ended, tenant))
        return await asyncio.wrap_future(done)

    def _ended(self, tenant: TenantId) -> None:
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
