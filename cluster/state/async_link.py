"""Connections to Redis for code on an event loop, where waiting must hold no thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cluster.state.link import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, translated

if TYPE_CHECKING:
    from redis.commands.core import AsyncScript


class AsyncRedisLink:
    """Runs commands and scripts from one event loop; errors come out as those of ``RedisLink`` do."""

    def __init__(self, url: str):
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import ConstantBackoff

        self._client = Redis.from_url(
            url,
            decode_responses=True,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            retry=Retry(ConstantBackoff(0.05), 1),  # as RedisLink: every script can be run twice
            health_check_interval=30,
        )
        self._scripts: dict[str, AsyncScript] = {}

    async def call(self, *command: Any) -> Any:
        """Run one command."""
        with translated():
            return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]  # as in RedisLink

    async def run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a Lua script (one of ``cluster.state.scripts``), which Redis executes as one step."""
        with translated():
            if script not in self._scripts:
                self._scripts[script] = self._client.register_script(script)
            return await self._scripts[script](keys=keys, args=args)

    async def close(self) -> None:
        """Close the connections; new ones are opened when they are needed."""
        await self._client.aclose()
