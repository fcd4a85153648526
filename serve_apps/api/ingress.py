"""The HTTP API as a plain ASGI application that needs no Ray."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI

from cluster.settings import ServeConfig
from cluster.state.people.tokens import has_tokens
from m2dao.errors import ServiceUnavailable
from serve_apps.api.error_handlers import OnProblem, install_error_handlers
from serve_apps.api.openapi import openapi_document
from serve_apps.api.rate_limits import install_rate_limits
from serve_apps.api.request_ids import install_request_ids
from serve_apps.api.routes import (
    audit,
    batches,
    fits,
    health,
    identities,
    keys,
    recordings,
    renders,
    tokens,
    usage,
    webhooks,
)
from serve_apps.api.services import Services
from serve_apps.api.web import MayCall, install_web_manners

VERSION = "1"
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_api(
    services: Services | None,
    *,
    on_created: Callable[[], None] = lambda: None,
    on_problem: OnProblem = lambda document: None,
    lifespan: Lifespan | None = None,
    front_returns_request_ids: bool = False,
) -> FastAPI:
    """The API: one router a resource, errors as problem documents, and its own description.

    Args:
        services: what it calls; None for an application that only tells its OpenAPI document.
        on_created: called on the event loop whenever a render may have been queued.
        on_problem: called with every problem document that is answered.
        lifespan: what to do at start and end.
        front_returns_request_ids: see ``install_request_ids``.
    """

    @contextlib.asynccontextmanager
    async def whole_life(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.nullcontext() if lifespan is None else lifespan(app):
            yield
        if services is not None:
            await services.changes.close()
            await services.door.close()

    app = FastAPI(
        title="Talking identities",
        version=VERSION,
        description="Ask for a video of a fitted person speaking an uploaded recording.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=whole_life,
    )
    install_error_handlers(app, on_problem)
    install_rate_limits(app, ServeConfig() if services is None else services.config)
    install_web_manners(app, () if services is None else services.config.origins, _has_tokens(services))
    install_request_ids(app, front_returns_them=front_returns_request_ids)
    app.state.services = services
    app.state.on_created = on_created
    for resource in (renders, identities, recordings, fits, batches, keys, tokens, audit, usage, webhooks, health):
        app.include_router(resource.router)
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]  # FastAPI documents this way
    return app


def _has_tokens(services: Services | None) -> MayCall:
    """Asks whether pages of an origin hold client tokens; without an answer of Redis none do."""

    async def ask(origin: str) -> bool:
        if services is None:
            return False
        try:
            return await has_tokens(services.redis, origin)
        except ServiceUnavailable:
            return False

    return ask
