"""Who asks, and whether it may: answered at the door, before a body is read.

A route with a parameter of type ``Tenant`` answers only to a valid API key of a tenant that has not asked too often.
``Lookup`` is the same for routes whose answer is dear; ``Upload`` also takes a place in the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from math import ceil
from typing import Annotated

from fastapi import Depends, Header
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from cluster.ids import RenderId, TenantId
from cluster.state.door import Answer, Verdict, place_of
from cluster.state.new_jobs import Place
from cluster.telemetry.scope import TENANT, note
from serve_apps.api.services import Services, ServicesOf
from serve_apps.problems import MAINTENANCE_DETAIL, ApiProblem

LOOKUP_COST = 10.0  # of a list of identities and of an unknown identity, which may ask the registry
PLACE_AGAIN_S = 5  # a render of ten seconds of speech takes about that long

_bearer = HTTPBearer(auto_error=False, description="An API key of the tenant, made by `m2dao-cluster key create`.")
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern=r"^[!-~]+$",
        description="Your own name for this request. The same key within 24 hours makes no second render.",
    ),
]


async def current_tenant(services: ServicesOf, credentials: _Credentials) -> TenantId:
    """Whose API key came with the request.

    Raises:
        ApiProblem: 401, or 429 when the tenant asks too often.
    """
    return _let_in(await services.door.enter(_key(credentials)), services)


async def tenant_that_looks_up(services: ServicesOf, credentials: _Credentials) -> TenantId:
    """``current_tenant`` for a request that costs as much as several.

    Raises:
        ApiProblem: 401 or 429.
    """
    return _let_in(await services.door.enter(_key(credentials), cost=LOOKUP_COST), services)


@dataclass(kw_only=True)
class UploadPlace:
    """The place of an upload: counted as an open render until the render is queued."""

    tenant: TenantId
    idempotency_key: str | None
    name: str
    services: Services
    held: bool = True

    @property
    def place(self) -> Place:
        """What the state store knows it by."""
        return place_of(self.name, self.idempotency_key)

    async def give_back(self) -> None:
        """Give the place back, once."""
        if self.held:
            self.held = False
            await self.services.door.leave(self.tenant, self.place)


async def place_for_upload(
    services: ServicesOf, credentials: _Credentials, idempotency_key: IdempotencyKey = None
) -> AsyncIterator[UploadPlace]:
    """A place for the upload that came with the request; its body has not been read yet.

    Raises:
        ApiProblem: 401; 429 when the tenant asks too often, uploads too much at once, or has too many open renders.
    """
    name = str(RenderId.new())
    answer = await services.door.enter(_key(credentials), place=name, idempotency_key=idempotency_key)
    tenant = _let_in(answer, services)
    place = UploadPlace(tenant=tenant, idempotency_key=idempotency_key, name=name, services=services)
    keeping = asyncio.create_task(services.door.keep(tenant, place.place))
    try:
        yield place
    finally:
        keeping.cancel()
        await place.give_back()


def _key(credentials: HTTPAuthorizationCredentials | None) -> str:
    if credentials is None:
        raise _refusal("missing-credentials", "send Authorization: Bearer KEY", "WWW-Authenticate", "Bearer")
    return credentials.credentials


def _let_in(answer: Answer, services: Services) -> TenantId:
    match answer.verdict:
        case Verdict.TOO_OFTEN:
            detail = f"at most {services.config.request_rate:g} requests a second"
            raise _refusal("too-many-requests", detail, "Retry-After", str(ceil(answer.wait_s)))
        case Verdict.BUSY:
            detail = f"at most {services.config.max_uploads} uploads at the same time"
            raise _refusal("too-many-uploads", detail, "Retry-After", "1")
        case Verdict.CLOSED:
            raise ApiProblem("maintenance", MAINTENANCE_DETAIL, {"Connection": "close"})  # as in _refusal
        case Verdict.FULL:
            raise too_many_renders(services)
    if answer.tenant is None:
        challenge = 'Bearer error="invalid_token"'
        raise _refusal("invalid-credentials", "the key is unknown or was revoked", "WWW-Authenticate", challenge)
    note(**{TENANT: str(answer.tenant)})
    return answer.tenant


def too_many_renders(services: Services) -> ApiProblem:
    """The 429 of a tenant that has as many open renders as it may have."""
    limit = services.config.max_active_renders
    detail = f"at most {limit} renders may be queued or running; try again in about {PLACE_AGAIN_S} s"
    return _refusal("quota-exceeded", detail, "Retry-After", str(PLACE_AGAIN_S))


def _refusal(code: str, detail: str, header: str, value: str) -> ApiProblem:
    # Without the second header the server would go on to receive the body, however long it is.
    return ApiProblem(code, detail, {header: value, "Connection": "close"})


Tenant = Annotated[TenantId, Depends(current_tenant)]
"""A route's parameter of this type is given the caller's tenant; without a valid key the answer is 401."""
Lookup = Annotated[TenantId, Depends(tenant_that_looks_up)]
"""The same for a route whose answer is dear."""
Upload = Annotated[UploadPlace, Depends(place_for_upload)]
"""The same for a route with a body: its tenant has a place for the render."""
