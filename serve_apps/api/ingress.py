"""The HTTP API: authenticate, check, hand on. ``create_api`` makes a plain ASGI application that needs no Ray."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from cluster.ids import TenantId
from serve_apps.api import schemas
from serve_apps.api.renders import RenderRequests, Services
from serve_apps.api.uploads import read_render_form
from serve_apps.config import MB
from serve_apps.problems import MEDIA_TYPE, ApiProblem, install_error_handlers

VERSION = "1"
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
_bearer = HTTPBearer(auto_error=False, description="An API key of the tenant, made by `m2dao-cluster key create`.")
_MEANINGS = {
    400: "The body cannot be read.",
    401: "No API key, or one that is not valid.",
    404: "Not there, or another tenant's.",
    409: "The render is finished.",
    413: "The upload is too large.",
    415: "The body is not multipart/form-data.",
    422: "The request or an upload cannot be used.",
    429: "Too many renders at once; see Retry-After.",
    500: "Our fault.",
    503: "A service behind the API does not answer.",
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _MEANINGS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in (*statuses, 500, 503)
    }


def create_api(
    services: Services | None, *, on_created: Callable[[], None] = lambda: None, lifespan: Lifespan | None = None
) -> FastAPI:
    """The API as an ASGI application.

    Args:
        services: what it calls; None for an application that only tells its OpenAPI document.
        on_created: called on the event loop whenever a render may have been queued.
        lifespan: what to do at start and end.
    """
    app = FastAPI(
        title="Talking identities",
        version=VERSION,
        description="Ask for a video of a fitted person speaking an uploaded recording.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    install_error_handlers(app)
    app.state.services = services
    app.state.requests = None if services is None else RenderRequests(services)
    app.state.on_created = on_created
    _add_create_render(app)
    _add_renders(app)
    _add_identities(app)
    _add_health(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def current_tenant(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> TenantId:
    """Whose API key came with the request.

    Raises:
        ApiProblem: 401.
    """
    if credentials is None:
        raise ApiProblem("missing-credentials", "send Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})
    tenant = request.app.state.services.state.accounts.authenticate(credentials.credentials)
    if tenant is None:
        challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise ApiProblem("invalid-credentials", "the key is unknown or was revoked", challenge)
    return tenant


def _requests(request: Request) -> RenderRequests:
    return request.app.state.requests


Tenant = Annotated[TenantId, Depends(current_tenant)]
Requests = Annotated[RenderRequests, Depends(_requests)]


async def _work_dir() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="upload-") as folder:
        yield Path(folder)


def _add_create_render(app: FastAPI) -> None:
    @app.post(
        "/v1/renders",
        status_code=202,
        operation_id="createRender",
        tags=["renders"],
        response_model=schemas.Render,
        openapi_extra=schemas.CREATE_RENDER_BODY,
        responses={
            202: {
                "description": "Queued. `Location` is where to ask for it.",
                "headers": {"Location": {"required": True, "schema": {"type": "string"}}},
            },
            **_problems(400, 401, 404, 413, 415, 422, 429),
        },
    )
    async def create_render(
        request: Request,
        response: Response,
        tenant: Tenant,
        requests: Requests,
        work_dir: Annotated[Path, Depends(_work_dir)],
        idempotency_key: Annotated[
            str | None,
            Header(
                min_length=1,
                max_length=200,
                pattern=r"^[!-~]+$",
                description="Your own name for this request. The same key within 24 hours makes no second render.",
            ),
        ] = None,
    ) -> schemas.Render:
        """Queue a video of an identity speaking the uploaded audio."""
        max_bytes = request.app.state.services.config.max_upload_mb * MB
        form = await read_render_form(request, max_bytes=max_bytes, work_dir=work_dir)
        job = await run_in_threadpool(requests.create, tenant, form, idempotency_key, work_dir)
        request.app.state.on_created()
        response.headers["Location"] = f"/v1/renders/{job.id}"
        return await run_in_threadpool(requests.body, job)


def _add_renders(app: FastAPI) -> None:
    @app.get(
        "/v1/renders",
        operation_id="listRenders",
        tags=["renders"],
        response_model=schemas.RenderList,
        responses=_problems(401, 422),
    )
    def list_renders(
        tenant: Tenant,
        requests: Requests,
        limit: Annotated[int, Query(ge=1, le=100, description="How many at most.")] = 20,
        offset: Annotated[int, Query(ge=0, le=1_000_000, description="How many of the newest to leave out.")] = 0,
    ) -> schemas.RenderList:
        """Your renders, the newest first. Finished ones leave after a week."""
        jobs = requests.list(tenant, limit=limit, offset=offset)
        return schemas.RenderList(renders=[requests.body(job) for job in jobs])

    @app.get(
        "/v1/renders/{render_id}",
        operation_id="getRender",
        tags=["renders"],
        response_model=schemas.Render,
        responses=_problems(401, 404),
    )
    def get_render(tenant: Tenant, requests: Requests, render_id: str) -> schemas.Render:
        """How far a render is; when done, where the video is."""
        return requests.body(requests.get(tenant, render_id))

    @app.delete(
        "/v1/renders/{render_id}",
        operation_id="cancelRender",
        tags=["renders"],
        response_model=schemas.Render,
        responses=_problems(401, 404, 409),
    )
    def cancel_render(tenant: Tenant, requests: Requests, render_id: str) -> schemas.Render:
        """Cancel a queued or running render. Cancelling it again changes nothing."""
        return requests.body(requests.cancel(tenant, render_id))


def _add_identities(app: FastAPI) -> None:
    @app.get(
        "/v1/identities",
        operation_id="listIdentities",
        tags=["identities"],
        response_model=schemas.IdentityList,
        responses=_problems(401),
    )
    def list_identities(tenant: Tenant, requests: Requests) -> schemas.IdentityList:
        """The people you can render, with their champion and all versions."""
        return schemas.IdentityList(identities=requests.identities(tenant))


def _add_health(app: FastAPI) -> None:
    @app.get("/healthz", operation_id="healthz", tags=["health"], response_model=schemas.Health)
    async def healthz() -> schemas.Health:
        """Whether this process answers. Says nothing about the services behind it."""
        return schemas.Health(status="ok")

    @app.get("/readyz", operation_id="readyz", tags=["health"], response_model=schemas.Health, responses=_problems())
    def readyz(request: Request) -> schemas.Health:
        """Whether the state store, the object store and the model registry answer."""
        services: Services = request.app.state.services
        for part in (services.state, services.store, services.registry):
            part.check()
        return schemas.Health(status="ok")


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        shared = document.setdefault("components", {}).setdefault("schemas", {})
        problem = schemas.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        shared.update(problem.pop("$defs", {}))
        shared["Problem"] = problem
        # FastAPI adds a 422 of its own shape wherever there is a parameter; ours are problem documents.
        for name in ("HTTPValidationError", "ValidationError"):
            shared.pop(name, None)
        for operations in document["paths"].values():
            for operation in operations.values():
                if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                    del operation["responses"]["422"]
        app.openapi_schema = document
    return app.openapi_schema
