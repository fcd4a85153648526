"""The state store: tenants, API keys, durable jobs, limits, locks and messages in Redis. The only module that imports redis.

    StateStore
      .accounts   tenants and their API keys               cluster/state/accounts.py
      .jobs       durable jobs with leases and fencing     cluster/state/jobs.py
      .limits     rates, slots and locks                   cluster/state/limits.py
      .publish / .subscribe / .subscribe_async             messages

Key names begin with the tenant (``acme:job:r-...``), so what belongs to whom can be read off the name, and a tenant
can be removed by its prefix. Four names do not, because they are what finds the tenant in the first place; none of
them holds anything a tenant sent, and their first parts cannot be tenant names:

    api-key:<hash>    the hash of an API key -> its tenant
    tenants           the set of tenants
    turn:<kind>       the tenants with open jobs, in the order of their turn
    events:<topic>    channels for messages (not keys)

Scripts reach keys by computed names, so this runs on one Redis or Valkey server (or a failover pair), not on a
sharded Redis Cluster.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from cluster.ids import TenantId
from cluster.settings import Settings
from cluster.state.accounts import Accounts
from cluster.state.jobs import JobId, Jobs, job_channel
from cluster.state.limits import Limits
from m2dao.errors import ServiceError, StateUnavailable

_CONNECT_TIMEOUT_S = 3
_ANSWER_TIMEOUT_S = 5


class StateStore:
    """Everything the platform keeps in Redis. Safe to share between threads; can be sent to another process.

    Every method, here and in the parts, raises ``StateUnavailable`` when Redis does not answer; calling again later
    is safe.
    """

    def __init__(self, settings: Settings):
        settings.require("redis_url")
        self._settings = settings
        self._link = RedisLink(settings.redis_url)
        self.accounts = Accounts(self._link, pepper=settings.key_pepper)
        self.jobs = Jobs(self._link)
        self.limits = Limits(self._link)

    def __reduce__(self):
        return type(self), (self._settings,)

    def check(self) -> None:
        """Return when the store answers; raise otherwise."""
        self._link.call("PING")

    def close(self) -> None:
        """Close the connections; the store can be used again and opens new ones."""
        self._link.close()

    def publish(self, topic: str, message: dict[str, Any]) -> int:
        """Send a message to whoever listens now; returns how many that were.

        Messages are hints: a listener that was away misses them, so it must also look for itself now and then.
        """
        return self._link.call("PUBLISH", _channel(topic), json.dumps(message))

    @contextlib.contextmanager
    def subscribe(self, *topics: str, job: tuple[TenantId, JobId] | None = None) -> Iterator[Subscription]:
        """Listen to topics ("champion", "jobs", ...), or to the changes of one job. Listening has begun on entry."""
        channels = [_channel(topic) for topic in topics] + ([job_channel(*job)] if job else [])
        with contextlib.closing(self._link.pubsub()) as pubsub:
            subscription = Subscription(pubsub)
            subscription._begin(channels)
            yield subscription

    async def subscribe_async(self, *topics: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Messages of topics, for as long as the loop goes on. Yields ``("", {})`` first, once listening has begun.

        Raises:
            StateUnavailable: the connection broke; call again to listen anew.
        """
        channels = [_channel(topic) for topic in topics]
        with _translated():
            async with self._link.async_client() as client, client.pubsub() as pubsub:
                await pubsub.subscribe(*channels)
                begun = 0
                async for message in pubsub.listen():
                    if message["type"] == "message":
                        yield _decoded(message)
                    begun += message["type"] == "subscribe"
                    if message["type"] == "subscribe" and begun == len(channels):
                        yield "", {}


class Subscription:
    """An open ear for messages; made by ``StateStore.subscribe``."""

    def __init__(self, pubsub: Any):
        self._pubsub = pubsub

    def _begin(self, channels: Sequence[str]) -> None:
        with _translated():
            self._pubsub.subscribe(*channels)
            confirmed = 0
            while confirmed < len(channels):
                message = self._pubsub.get_message(timeout=_ANSWER_TIMEOUT_S)
                if message is None:
                    raise StateUnavailable(
                        "state store", "a subscription to be confirmed", "no answer", "try again later"
                    )
                confirmed += message["type"] == "subscribe"

    def get(self, timeout_s: float) -> tuple[str, dict[str, Any]] | None:
        """The next message as (topic, message), or None after ``timeout_s`` seconds without one.

        Raises:
            StateUnavailable: the connection broke. The next call connects and subscribes anew; what was sent
                meanwhile is lost.
        """
        with _translated():
            message = self._pubsub.get_message(ignore_subscribe_messages=True, timeout=timeout_s)
        return None if message is None else _decoded(message)


def _channel(topic: str) -> str:
    return f"events:{topic}"


def _decoded(message: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return message["channel"].removeprefix("events:"), json.loads(message["data"])


class RedisLink:
    """Connections to Redis, scripts, and the translation of errors; what the parts of the store are built on."""

    def __init__(self, url: str):
        import redis
        from redis.backoff import ConstantBackoff
        from redis.retry import Retry

        self._url = url
        # One retry covers a connection that the server dropped while it was idle. Every script can be run twice.
        self._client = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            socket_timeout=_ANSWER_TIMEOUT_S,
            retry=Retry(ConstantBackoff(0.05), 1),
            health_check_interval=30,
        )
        self._scripts: dict[str, Any] = {}

    def call(self, *command: Any) -> Any:
        """Run one command."""
        with _translated():
            return self._client.execute_command(*command)

    def hash(self, key: str) -> dict[str, str]:
        """All fields of a hash; empty when there is none."""
        with _translated():
            return self._client.hgetall(key)

    def hashes(self, keys: Sequence[str]) -> list[dict[str, str]]:
        """Many hashes in one round trip."""
        with _translated():
            pipeline = self._client.pipeline(transaction=False)
            for key in keys:
                pipeline.hgetall(key)
            return pipeline.execute()

    def run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a Lua script, which Redis executes as one step."""
        with _translated():
            if script not in self._scripts:
                self._scripts[script] = self._client.register_script(script)
            return self._scripts[script](keys=keys, args=args)

    def scan(self, pattern: str) -> Iterator[str]:
        """The names of all keys that match; slow on a large store."""
        with _translated():
            yield from self._client.scan_iter(match=pattern, count=500)

    def pubsub(self) -> Any:
        """A connection of its own for messages."""
        return self._client.pubsub()

    def async_client(self) -> Any:
        """A client for asyncio, with connections of its own."""
        import redis.asyncio

        return redis.asyncio.Redis.from_url(self._url, decode_responses=True, socket_connect_timeout=_CONNECT_TIMEOUT_S)

    def close(self) -> None:
        self._client.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn errors of redis into ours."""
    from redis import exceptions

    try:
        yield
    except exceptions.AuthenticationError as error:
        raise ServiceError(
            "state store", "to be let in", str(error), "check the password in M2DAO_REDIS_URL"
        ) from error
    except (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError, OSError) as error:
        raise StateUnavailable("state store", "an answer of Redis", str(error), "try again later") from error
    except exceptions.ReadOnlyError as error:
        raise StateUnavailable("state store", "a primary server", "a read-only replica", "try again later") from error
    except exceptions.RedisError as error:
        raise ServiceError("state store", "Redis to accept the request", str(error)) from error
