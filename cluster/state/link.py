"""Connections to Redis: ``RedisLink`` for threads, ``AsyncRedisLink`` for event loops.

No other module imports redis, and every key and command goes through these two.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from m2dao.errors import AccessRefused, ServiceError, StateUnavailable

if TYPE_CHECKING:
    from redis.client import PubSub
    from redis.commands.core import AsyncScript, Script

CONNECT_TIMEOUT_S = 3
ANSWER_TIMEOUT_S = 5


def new_nonce() -> str:
    """Names one run of a script, so that running it again can be told from running another."""
    return secrets.token_hex(16)


class RedisLink:
    """Connections and scripts; errors of redis come out as ours. Safe to share between threads.

    Every method raises ``StateUnavailable`` when Redis does not answer; calling again later is safe.
    """

    def __init__(self, url: str):
        import redis
        from redis.backoff import ConstantBackoff
        from redis.retry import Retry

        # One retry covers a connection that the server dropped while it was idle. Every script can be run twice.
        self._client = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_TIMEOUT_S,
            retry=Retry(ConstantBackoff(0.05), 1),
            health_check_interval=30,
        )
        self._scripts: dict[str, Script] = {}

    def call(self, *command: Any) -> Any:
        """Run one command."""
        with translated():
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py has no type for it

    def hash(self, key: str) -> dict[str, str]:
        """All fields of a hash; empty when there is none."""
        with translated():
            return cast("dict[str, str]", self._client.hgetall(key))  # decode_responses leaves no bytes

    def blobs(self, key: str) -> dict[str, bytes]:
        """All fields of a hash that holds bytes; empty when there is none."""
        with translated():
            # redis-py decodes every answer or none, but for this.
            found = self._client.execute_command("HGETALL", key, NEVER_DECODE=True)  # type: ignore[no-untyped-call]
        return {name.decode(): content for name, content in found.items()}

    def hashes(self, keys: Sequence[str]) -> list[dict[str, str]]:
        """Many hashes in one round trip."""
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for key in keys:
                pipeline.hgetall(key)
            return pipeline.execute()

    def steps(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run commands as one step, with nothing of others between them; returns the answers."""
        with translated():
            pipeline = self._client.pipeline(transaction=True)
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]  # as above
            return pipeline.execute()

    def run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a Lua script (one of ``cluster.state.scripts``), which Redis executes as one step."""
        with translated():
            if script not in self._scripts:
                self._scripts[script] = self._client.register_script(script)
            return self._scripts[script](keys=keys, args=args)

    def scan(self, pattern: str) -> Iterator[str]:
        """The names of all keys that match; slow on a large store."""
        with translated():
            yield from self._client.scan_iter(match=pattern, count=500)

    @contextlib.contextmanager
    def listen(self, channels: Sequence[str]) -> Iterator[Listener]:
        """Listen to channels, on a connection of its own. Listening has begun on entry."""
        with contextlib.closing(self._client.pubsub()) as pubsub:  # type: ignore[no-untyped-call]  # as above
            listener = Listener(pubsub)
            listener._begin(channels)
            yield listener

    def close(self) -> None:
        """Close the connections; new ones are opened when they are needed."""
        self._client.close()


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

    async def hash(self, key: str) -> dict[str, str]:
        """All fields of a hash; empty when there is none."""
        with translated():
            return cast("dict[str, str]", await self._client.hgetall(key))

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncListener]:
        """Listen on a connection of its own."""
        pubsub = self._client.pubsub()
        try:
            yield AsyncListener(pubsub)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # as above

    async def close(self) -> None:
        """Close the connections; new ones are opened when they are needed."""
        await self._client.aclose()


class AsyncListener:
    """An open connection for messages on an event loop; made by ``AsyncRedisLink.listen``."""

    def __init__(self, pubsub: Any):
        self._pubsub = pubsub
        self._heard: set[str] = set()

    async def hear(self, channels: set[str]) -> None:
        """Listen to these channels, and to no others."""
        with translated():
            if new := channels - self._heard:
                await self._pubsub.subscribe(*new)
            if old := self._heard - channels:
                await self._pubsub.unsubscribe(*old)
        self._heard = set(channels)

    async def get(self, timeout_s: float) -> str | None:
        """The channel of the next message; None after ``timeout_s`` seconds without one."""
        with translated():
            message = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=timeout_s)
        return None if message is None else str(message["channel"])


class Listener:
    """An open connection for messages; made by ``RedisLink.listen``."""

    def __init__(self, pubsub: PubSub):
        self._pubsub = pubsub

    def _begin(self, channels: Sequence[str]) -> None:
        with translated():
            self._pubsub.subscribe(*channels)
            confirmed = 0
            while confirmed < len(channels):
                message = self._pubsub.get_message(timeout=ANSWER_TIMEOUT_S)
                if message is None:
                    raise StateUnavailable(
                        "state store", "a subscription to be confirmed", "no answer", "try again later"
                    )
                confirmed += message["type"] == "subscribe"

    def get(self, timeout_s: float) -> tuple[str, str] | None:
        """The next message as (channel, text), or None after ``timeout_s`` seconds without one.

        Raises:
            StateUnavailable: the connection broke. The next call connects and subscribes anew; what was sent
                meanwhile is lost.
        """
        with translated():
            message = self._pubsub.get_message(ignore_subscribe_messages=True, timeout=timeout_s)
        return None if message is None else (message["channel"], message["data"])


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn errors of redis into ours."""
    from redis import exceptions

    try:
        yield
    except exceptions.AuthenticationError as error:
        raise AccessRefused(
            "state store", "to be let in", str(error), "check the password in M2DAO_REDIS_URL"
        ) from error
    except (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError, OSError) as error:
        raise StateUnavailable("state store", "an answer of Redis", str(error), "try again later") from error
    except exceptions.ReadOnlyError as error:
        raise StateUnavailable("state store", "a primary server", "a read-only replica", "try again later") from error
    except exceptions.RedisError as error:
        raise ServiceError("state store", "Redis to accept the request", str(error)) from error
