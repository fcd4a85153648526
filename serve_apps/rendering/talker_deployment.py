"""The renderer deployment: a shell around ``RenderWorker`` for Ray Serve.

Requests are routed by the pinned model ref (the multiplexed model id), which only the dispatcher sets, through its
handle. Serve prefers replicas that have announced the id. What they announce are refs, not talkers: the talkers are in
our own cache (``identities/talker_cache.py``), so Serve's eviction can only cost a better route.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from ray import serve

from cluster.control.champion_watch import ChampionWatch
from cluster.platform import Platform
from cluster.scratch import remove_abandoned
from cluster.settings import MB, ServeConfig, Settings
from cluster.telemetry.logs import configure_logging
from cluster.telemetry.traces.export import flush_traces, start_traces
from m2dao.errors import M2daoError, RenderBackendUnavailable, ServiceError
from serve_apps.identities.node_cache import NodeCache
from serve_apps.identities.source import IdentitySource, load_talker
from serve_apps.identities.talker_cache import TalkerCache, keep_warm
from serve_apps.rendering.health import Health
from serve_apps.rendering.load import Load, queue_figures
from serve_apps.rendering.meter import CacheMeter, tell_of_render
from serve_apps.rendering.pool import RenderPool
from serve_apps.rendering.probe import ReplicaProber
from serve_apps.rendering.worker import SCRATCH, RenderWorker, Watchers
from serve_apps.tickets import RenderTicket

DEPLOYMENT = "talker"
MAX_ANNOUNCED = 256  # refs a replica announces at the same time


def start_backend(config: ServeConfig) -> Callable[[], None]:
    """Compile and load what renders, so that no render waits for it; returns a probe of it.

    Raises:
        RenderBackendUnavailable: the backend of the settings does not run here. Nothing takes its place.
    """
    import m2dao.identity.talker  # noqa: F401
    from m2dao.identity.renderers import probe, warm_up

    try:
        warm_up(config.backend)
    except RenderBackendUnavailable as error:
        raise RenderBackendUnavailable(
            f"renderer replica on {socket.gethostname()}",
            f"backend {config.backend!r}, because M2DAO_SERVE_REPLICA_GPUS is {config.replica_gpus:g}",
            str(error),
            "mend the GPU of this node or take it out of the cluster; with 0 GPUs replicas render by the CPU",
        ) from error
    return functools.partial(probe, config.backend)


class TalkerReplica:
    """One renderer replica.

    Args:
        config: limits and sizes. Where the services are comes from the environment.
    """

    def __init__(self, config: ServeConfig):
        settings = Settings.from_env()
        configure_logging(DEPLOYMENT, level=settings.log_level)
        start_traces(DEPLOYMENT, settings)
        remove_abandoned(SCRATCH)
        probe = start_backend(config)
        platform = Platform(settings)
        source = IdentitySource(
            versions=platform.state.versions,
            store=platform.store,
            disk=NodeCache(settings.home / "serve-cache", byte_budget=config.disk_budget_mb * MB),
            load_talker=functools.partial(load_talker, backend=config.backend),
        )
        self._jobs = platform.state.jobs
        self._talkers = TalkerCache(source.prepare, byte_budget=config.talker_budget_mb * MB)
        self._meter = CacheMeter(self._talkers)
        self._load = Load()
        self._health = Health(probe=probe)
        self._drain_s = config.drain_s
        worker = RenderWorker(
            jobs=platform.state.jobs,
            store=platform.store,
            talkers=self._talkers,
            config=config,
            watchers=Watchers(load=self._load, health=self._health, on_done=tell_of_render),
            backoff=settings.jobs.backoff,
            name=f"{socket.gethostname()}:{os.getpid()}",
        )
        self._pool = RenderPool(worker, concurrency=config.render_concurrency)
        prober = ReplicaProber(
            platform.state.probes,
            self._talkers,
            name=f"replica {socket.gethostname()}:{os.getpid()}",
            backend=config.backend,
        )
        self._watch = ChampionWatch(
            platform.state, on_change=lambda message: keep_warm(self._talkers, message), on_probe=prober.heard
        )
        self._watch.start()

    @serve.multiplexed(max_num_models_per_replica=MAX_ANNOUNCED)  # type: ignore[untyped-decorator]  # in Ray
    async def _announce(self, model_id: str) -> str:
        return model_id

    async def render(self, ticket: dict[str, Any]) -> AsyncIterator[str]:
        """Do one claimed render; see ``RenderPool.words``."""
        ref = serve.get_multiplexed_model_id()
        await self._announce(ref)
        async with contextlib.aclosing(self._pool.words(RenderTicket(**ticket), ref)) as words:
            async for word in words:
                yield word

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What ``BacklogPolicy`` goes by. While Redis does not answer, nothing is said of the queue."""
        self._meter.tell()
        figures = self._load.figures()
        with contextlib.suppress(M2daoError):
            figures |= await asyncio.to_thread(queue_figures, self._jobs)
        return figures

    def __del__(self) -> None:
        """Called by Serve when it stops the replica: finish the renders under way, whoever asked for them.

        Serve itself waits only for requests, and a request is over when the dispatcher that sent it has gone. It
        kills the replica after ``drain_s``; what is not done shortly before that is given back uncounted.
        """
        pool = getattr(self, "_pool", None)
        if pool is not None:
            pool.stop(self._drain_s)
            flush_traces()

    async def check_health(self) -> None:
        """Raise when this replica cannot render any more; Serve then replaces it."""
        await asyncio.to_thread(self._health.check)  # a GPU that hangs must not hold the renders' words
        if not self._watch.alive:
            raise ServiceError("renderer replica", "its listener to run", "a stopped one")
