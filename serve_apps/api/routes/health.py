"""``/healthz`` and ``/readyz``: for load balancers and deployments."""

from __future__ import annotations

from fastapi import APIRouter

from m2dao.errors import ContainmentUnavailable
from serve_apps.api import schemas
from serve_apps.api.openapi import problem_responses
from serve_apps.api.services import ServicesOf
from serve_apps.problems import ApiProblem

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="healthz", response_model=schemas.Health)
async def healthz() -> schemas.Health:
    """Whether this process answers. Says nothing about the services behind it."""
    return schemas.Health(status="ok")


@router.get("/readyz", operation_id="readyz", response_model=schemas.Health, responses=problem_responses())
def readyz(services: ServicesOf) -> schemas.Health:
    """Whether the state store, the object store and the model registry answer, and uploads can be decoded."""
    for part in (services.state, services.store, services.registry):
        part.check()
    try:
        services.decoder.start()
    except ContainmentUnavailable as error:
        raise ApiProblem("service-unavailable", str(error)) from error
    return schemas.Health(status="ok")
