"""Everything the API calls, in one hand: made once per ingress replica, or by a test."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from cluster.platform import Platform
from cluster.settings import MB, ServeConfig, Settings
from cluster.state.door import Door, Terms
from cluster.state.link import AsyncRedisLink
from cluster.state.store import StateStore
from cluster.storage import ObjectStore
from cluster.telemetry.scope import carried
from serve_apps.api.decode import UploadDecoder
from serve_apps.api.disk import DiskBudget
from serve_apps.api.readiness import Readiness
from serve_apps.api.waiting.job_changes import JobChanges
from serve_apps.api.waiting.turns import Turns

UPLOAD_THREADS = 16  # they wait for services
_WRITERS = 4  # the disk is no quicker with more
_FOLLOWERS, _FOLLOWERS_OF_A_TENANT = 64, 8  # requests that stay; an ingress has 256 in all
_ACTIONS, _ACTIONS_OF_A_TENANT = 8, 2  # at the same time: they wait for others
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Services:
    """The API's collaborators."""

    config: ServeConfig
    platform: Platform
    state: StateStore
    store: ObjectStore
    readiness: Readiness
    decoder: UploadDecoder
    door: Door
    redis: AsyncRedisLink  # for what is done on the event loop; the door closes it
    disk: DiskBudget
    threads: ThreadPoolExecutor
    storing: ThreadPoolExecutor  # for the files of one upload, called from ``threads``
    writers: ThreadPoolExecutor  # of bodies, to our own disk
    turns: Turns  # for actions that take long
    changes: JobChanges  # for those who follow jobs

    async def in_thread(self, call: Callable[..., Result], *arguments: Any) -> Result:
        """Call something that blocks, in threads that only uploads use: they hold up each other only."""
        work = carried(functools.partial(call, *arguments))
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)


def make_services(settings: Settings, config: ServeConfig) -> Services:
    """The API's collaborators, connected to the services of ``settings``."""
    platform = Platform(settings)
    decoder = UploadDecoder(config, allow_uncontained=settings.allow_uncontained_decoders)
    redis = AsyncRedisLink(settings.require("redis.url"))
    return Services(
        config=config,
        platform=platform,
        state=platform.state,
        store=platform.store,
        readiness=Readiness.of(platform, decoder),
        decoder=decoder,
        door=Door(redis, platform.state.accounts, _terms(config)),
        redis=redis,
        disk=DiskBudget(config.upload_disk_mb * MB),
        threads=ThreadPoolExecutor(UPLOAD_THREADS, thread_name_prefix="upload"),
        writers=ThreadPoolExecutor(_WRITERS, thread_name_prefix="upload-file"),
        storing=ThreadPoolExecutor(UPLOAD_THREADS, thread_name_prefix="upload-store"),
        changes=JobChanges(redis, most=_FOLLOWERS, per_tenant=_FOLLOWERS_OF_A_TENANT),
        turns=Turns(num_threads=_ACTIONS, per_tenant=_ACTIONS_OF_A_TENANT),
    )


def _terms(config: ServeConfig) -> Terms:
    return Terms(
        rate=config.request_rate,
        burst=config.request_burst,
        uploads=config.max_uploads,
        open_renders=config.max_active_renders,
    )


async def services_of(request: Request) -> Services:
    """The services of the application that answers ``request``."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


ServicesOf = Annotated[Services, Depends(services_of)]
"""A route's parameter of this type is given the application's services."""
