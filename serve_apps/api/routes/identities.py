"""``/v1/identities``: the people a tenant can render."""

from __future__ import annotations

from fastapi import APIRouter

from serve_apps.api import schemas
from serve_apps.api.authentication import Tenant
from serve_apps.api.openapi import problem_responses
from serve_apps.api.services import ServicesOf

router = APIRouter(prefix="/v1/identities", tags=["identities"])


@router.get("", operation_id="listIdentities", response_model=schemas.IdentityList, responses=problem_responses(401))
def list_identities(tenant: Tenant, services: ServicesOf) -> schemas.IdentityList:
    """The people you can render, with their champion and all versions."""
    infos = services.registry.list_identities(tenant)
    return schemas.IdentityList(
        identities=[
            schemas.Identity(identity=str(info.identity), champion=info.champion, versions=list(info.versions))
            for info in infos
        ]
    )
