"""``/healthz`` and ``/readyz``: for load balancers and deployments."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter

from serve_apps.api import schemas
from serve_apps.api.openapi import problem_responses
from serve_apps.api.services import ServicesOf
from serve_apps.problems import ApiProblem

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="healthz", response_model=schemas.Health)
async def healthz() -> schemas.Health:
    """Whether this process answers. Says nothing about the services behind it."""
    return schemas.Health(status="ok")


@router.get("/readyz", operation_id="readyz", response_model=schemas.Readiness, responses=problem_responses())
async def readyz(services: ServicesOf) -> schemas.Readiness:
    """Whether renders can be accepted; says within a second what does not answer."""
    report = await services.readiness.look()
    if report.missing:
        raise ApiProblem("service-unavailable", "; ".join(report.missing))
    status: Literal["ok", "degraded", "maintenance"] = "degraded" if report.degraded else "ok"
    return schemas.Readiness(status="maintenance" if report.under_maintenance else status, degraded=report.degraded)
