"""``/v1/identities``: the people a tenant can render."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from serve_apps.api import schemas
from serve_apps.api.authentication import Lookup
from serve_apps.api.openapi import problem_responses
from serve_apps.api.services import ServicesOf

router = APIRouter(prefix="/v1/identities", tags=["identities"])


@router.get(
    "", operation_id="listIdentities", response_model=schemas.IdentityList, responses=problem_responses(401, 422, 429)
)
def list_identities(
    tenant: Lookup,
    services: ServicesOf,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    after: Annotated[
        str, Query(pattern=r"^([a-z0-9][a-z0-9-]{0,39})?$", description="`next` of the page before; the first: empty.")
    ] = "",
) -> schemas.IdentityList:
    """The people you can render, by name, with their champion and all versions."""
    infos, following = services.state.champions.page(tenant, after=after, limit=limit)
    return schemas.IdentityList(
        identities=[
            schemas.Identity(identity=str(info.identity), champion=info.champion, versions=list(info.versions))
            for info in infos
        ],
        next=following,
    )
