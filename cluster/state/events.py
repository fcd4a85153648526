"""Messages between processes: champions that moved, jobs that changed. The scripts send them.

Messages are hints: a listener that was away misses them, so it must also look for itself now and then.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from cluster.ids import JobId, TenantId
from cluster.state import keys
from cluster.state.link import Listener, RedisLink


class Events:
    """Topics that anybody listens to. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink):
        self._link = link

    @contextlib.contextmanager
    def subscribe(
        self, *topics: str, job: tuple[TenantId, JobId] | None = None, jobs: tuple[TenantId, str] | None = None
    ) -> Iterator[Subscription]:
        """Listen to topics, to one job or to a tenant's jobs of a kind; listening has begun on entry."""
        channels = [keys.channel(topic) for topic in topics]
        channels += [keys.job_channel(*job)] if job else []
        channels += [keys.jobs_channel(*jobs)] if jobs else []
        with self._link.listen(channels) as listener:
            yield Subscription(listener)


class Subscription:
    """An open ear for messages; made by ``Events.subscribe``."""

    def __init__(self, listener: Listener):
        self._listener = listener

    def get(self, timeout_s: float) -> tuple[str, dict[str, Any]] | None:
        """The next message as (topic, message), or None after ``timeout_s`` seconds without one.

        Raises:
            StateUnavailable: the connection broke. The next call connects and subscribes anew; what was sent
                meanwhile is lost.
        """
        found = self._listener.get(timeout_s)
        return None if found is None else (keys.topic_of(found[0]), json.loads(found[1]))
