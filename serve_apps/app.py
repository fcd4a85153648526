"""The Ray Serve application: the ingress with its dispatcher, and the renderer replicas."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.exceptions import ActorDiedError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from cluster.ids import ModelRef
from cluster.scratch import remove_abandoned
from cluster.settings import MB, ServeConfig, Settings
from cluster.telemetry import ray_meter
from cluster.telemetry.logs import configure_logging
from cluster.telemetry.metrics import PROBLEMS
from cluster.telemetry.traces.export import flush_traces, start_traces
from m2dao.errors import ConfigError, ContainmentUnavailable, ServiceUnavailable, StorageUnavailable
from serve_apps.api.ingress import create_api
from serve_apps.api.routes import renders
from serve_apps.api.services import make_services
from serve_apps.keeper_deployment import DEPLOYMENT as KEEPER
from serve_apps.keeper_deployment import KeeperReplica
from serve_apps.problems import URN
from serve_apps.rendering.breaker import Breaker
from serve_apps.rendering.dispatcher import Dispatcher
from serve_apps.rendering.talker_deployment import DEPLOYMENT as TALKER
from serve_apps.rendering.talker_deployment import TalkerReplica
from serve_apps.tickets import RenderTicket

APP_NAME = "m2dao"
INGRESS = "ingress"
_PACKAGES = Path(__file__).resolve().parent.parent
_STOPPED = ("killed by `ray.kill`", "its node has died", "node was terminated")
_LOOK_BACK_S = 12.0  # seconds of reports that Serve keeps; it wants more than its default interval of 10
_REPORT_S = 0.5  # how often a replica reports to the autoscaler
_LOGGING = {"encoding": "JSON", "enable_access_log": False}
_HEALTH_S = 1.0  # how late Serve sees that a replica has died, and starts another
_NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # Ray leaves them all visible to those that reserve none
_KEEPER_MEMORY_MB = 500
_DEAD_AFTER_S = 30.0  # a render uses the cores; slow to answer is not dead


class Ingress:
    """One ingress replica: the HTTP API, and a dispatcher that feeds the renderer replicas.

    Args:
        renderer: handle of the renderer deployment.
        config: limits and sizes. Where the services are comes from the environment, because Serve writes these
            arguments into Ray's tables, and the settings hold secrets.
        beside: deployments that only belong to the same application.
    """

    def __init__(self, renderer: Any, config: ServeConfig, *beside: Any):
        settings = Settings.from_env()
        configure_logging(INGRESS, level=settings.log_level)
        start_traces(INGRESS, settings)
        remove_abandoned(renders.SCRATCH)
        self._renderer = renderer
        self._services = make_services(settings, config)
        with contextlib.suppress(ServiceUnavailable):  # a store that is away is no reason not to start
            self._services.state.accounts.check_pepper()
        self._dispatcher = Dispatcher(
            jobs=self._services.state.jobs,
            send=self._send,
            config=config,
            worker=f"dispatcher {socket.gethostname()}:{os.getpid()}",
            breaker=Breaker({StorageUnavailable.code: self._services.store.check}, settings.jobs.backoff),
            was_stopped=_was_stopped,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_api(
            self._services,
            on_created=self._dispatcher.wake,
            on_problem=_count,
            lifespan=self._lifespan,
            front_returns_request_ids=True,  # Serve's proxy does
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        with contextlib.suppress(ContainmentUnavailable):  # uploads are refused then, and readiness says why
            await asyncio.to_thread(self._services.decoder.start)
        self._dispatcher.start()
        try:
            yield
        finally:
            await self._dispatcher.stop()
            await asyncio.to_thread(self._services.decoder.close)
            await asyncio.to_thread(flush_traces)

    async def _send(self, ref: ModelRef, ticket: RenderTicket) -> AsyncGenerator[str, None]:
        """Send a ticket to a replica that has, or will load, the model.

        Nothing else sets a multiplexed model id. Any client can send the header of that name, but it ends here.
        """
        handle = self._renderer.options(multiplexed_model_id=str(ref), stream=True)
        words = handle.render.remote(ticket.as_sent())
        try:
            async for word in words:
                yield word
        finally:
            words.cancel()  # nothing when it is over; otherwise it leaves the router's queue


def _count(document: Mapping[str, Any]) -> None:
    ray_meter.count(PROBLEMS, status=str(document["status"]), code=document["type"].removeprefix(URN))


def _was_stopped(error: Exception) -> bool:
    """Whether a replica was ended on purpose or with its node: a drain, a deploy, a smaller cluster."""
    # Ray has no other sign: a replica that Serve ends after its time to drain dies of ``ray.kill``.
    return isinstance(error, ActorDiedError) and any(sign in str(error) for sign in _STOPPED)


def build_app(settings: Settings, config: ServeConfig, *, with_keeper: bool = True) -> serve.Application:
    """The application, ready for ``serve.run``. No secret is in it.

    Replicas find secrets where fits find them: in the file that ``M2DAO_HOME`` leads to, or in the environment of the
    cluster's machines.

    Args:
        with_keeper: whether a keeper belongs to it; the embedded stack has one already.
    """
    environment = settings.to_env(secrets=False, serve=False)
    # Called with options alone, serve.deployment is typed as what it is: a decorator.
    renderer = serve.deployment(
        name=TALKER,
        max_ongoing_requests=config.render_concurrency,
        autoscaling_config=AutoscalingConfig(
            min_replicas=config.min_replicas,
            max_replicas=config.max_replicas,
            look_back_period_s=_LOOK_BACK_S,
            upscale_delay_s=config.upscale_delay_s,
            downscale_delay_s=config.downscale_delay_s,
            policy=AutoscalingPolicy(  # type: ignore[no-untyped-call]  # Ray leaves its constructor untyped
                policy_function="serve_apps.rendering.autoscaling:BacklogPolicy",
                policy_kwargs={"target_wait_s": config.target_wait_s, "concurrency": config.render_concurrency},
            ),
        ),
        ray_actor_options={
            "num_cpus": config.reserved_cpus,
            "num_gpus": config.replica_gpus,
            "memory": config.reserved_memory_mb * MB,
            "runtime_env": {"env_vars": {**environment, **_renderer_env(config)}},
        },
        graceful_shutdown_timeout_s=config.drain_s,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=_HEALTH_S,
        health_check_timeout_s=_DEAD_AFTER_S,
        logging_config=_LOGGING,
    )(TalkerReplica)
    ingress = serve.deployment(
        name=INGRESS,
        num_replicas=config.ingress_replicas,
        max_ongoing_requests=256,  # connections, not renders: the work here is small or in threads
        ray_actor_options=_without_cores(environment, config.ingress_memory_mb),
        graceful_shutdown_timeout_s=10.0,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=_HEALTH_S,
        health_check_timeout_s=_DEAD_AFTER_S,
        logging_config=_LOGGING,
    )(serve.ingress()(Ingress))
    beside = [_keeper_deployment(environment).bind()] if with_keeper else []
    return ingress.bind(renderer.bind(config), config, *beside)


def _keeper_deployment(environment: dict[str, str]) -> serve.Deployment:
    return serve.deployment(
        name=KEEPER,
        ray_actor_options=_without_cores(environment, _KEEPER_MEMORY_MB),
        graceful_shutdown_timeout_s=5.0,
        health_check_period_s=_HEALTH_S,
        health_check_timeout_s=_DEAD_AFTER_S,
        logging_config=_LOGGING,
    )(KeeperReplica)


def _without_cores(environment: dict[str, str], memory_mb: int) -> dict[str, Any]:
    """For what does little work. A head offers no memory, so none of it is ever put there."""
    env = {**environment, **_NO_GPU}
    return {"num_cpus": 0, "memory": memory_mb * MB, "runtime_env": {"env_vars": env}}


def build_from_env(args: dict[str, str]) -> serve.Application:
    """The application for a Serve config file, whose ``import_path`` names this function.

    Args:
        args: what Serve passes on from the file; there is nothing to be said there, all settings come from the
            cluster's environment.
    """
    if args:
        raise ConfigError("args of the application", "none: settings come from the environment", str(sorted(args)))
    settings = Settings.from_env()
    return build_app(settings, settings.serve)


def _renderer_env(config: ServeConfig) -> dict[str, str]:
    threads = str(config.render_threads)
    return {
        **({} if config.replica_gpus else _NO_GPU),
        # Threads that have nothing to do must sleep: replicas share cores, and threads that spin while they wait
        # for each other's core made a render up to forty times slower on a busy machine.
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": "1",  # PyTorch's; see m2dao/kernels/threads.py
        "NUMBA_NUM_THREADS": threads,
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": str(_REPORT_S),
    }
