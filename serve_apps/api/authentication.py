"""Who asks, and whether it may: answered at the door, before a body is read.

A route with a parameter of type ``Tenant`` answers only to a valid API key of a tenant that has not asked too often.
``Lookup`` is the same for routes whose answer is dear; ``Upload`` also takes a place in the queue. These three need the
scope ``client``, ``Operator`` and ``OperatorLookup`` need ``operator``, ``Admin`` needs ``admin``. ``Asker`` and
``Upload`` let client tokens in too. What a route needs stands in the OpenAPI document.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from math import ceil
from typing import Annotated

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from cluster.ids import RenderId, TenantId
from cluster.state.door import Answer, Verdict, place_of
from cluster.state.new_jobs import Once, Place
from cluster.state.people.audit import act_as
from cluster.state.people.principals import Needed, Principal, Purpose, Scope
from cluster.telemetry.scope import TENANT, note
from serve_apps.api.bodies.queries import refuse_unknown_query
from serve_apps.api.rate_limits import note_rate
from serve_apps.api.services import Services, ServicesOf
from serve_apps.problems import MAINTENANCE_DETAIL, ApiProblem

LOOKUP_COST = 10.0  # of a list of identities and of an unknown identity, which may ask the registry
PLACE_AGAIN_S = 5  # a render of ten seconds of speech takes about that long
_LONGEST_ORIGIN = 300  # characters; a host name has 253 at most

_bearer = HTTPBearer(auto_error=False, description="An API key of the tenant, or a client token.")
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern=r"^[!-~]+$",
        description="Your own name for this request. The same key within 24 hours makes nothing a second time.",
    ),
]


def once_of(idempotency_key: str | None) -> Once | None:
    """The client's own name for a request, as use cases take it."""
    return None if idempotency_key is None else Once(key=idempotency_key)


async def what_is_needed(request: Request, scopes: SecurityScopes) -> Needed:
    """What the request must bring, as its route declares it."""
    scope, *purposes = scopes.scopes  # each route declares one scope, and may declare a purpose of tokens
    purpose = Purpose(purposes[0]) if purposes else None
    return Needed(scope=Scope(scope), purpose=purpose, origin=request.headers.get("origin", "")[:_LONGEST_ORIGIN])


_Needs = Annotated[Needed, Security(what_is_needed)]


async def current_principal(
    request: Request, services: ServicesOf, credentials: _Credentials, needed: _Needs
) -> Principal:
    """Whose API key or client token came with the request.

    Raises:
        ApiProblem: 401, 403 when the key lacks the scope, 429 when the tenant asks too often, or 422 when the query
            has a parameter that the route has not.
    """
    return _let_in(request, await services.door.enter(_key(credentials), needed), services, needed)


async def current_tenant(principal: Annotated[Principal, Security(current_principal)]) -> TenantId:
    """The tenant whose API key came with the request.

    Raises:
        what ``current_principal`` raises.
    """
    return principal.tenant


async def tenant_that_looks_up(
    request: Request, services: ServicesOf, credentials: _Credentials, needed: _Needs
) -> TenantId:
    """``current_tenant`` for a request that costs as much as several.

    Raises:
        what ``current_principal`` raises.
    """
    answer = await services.door.enter(_key(credentials), needed, cost=LOOKUP_COST)
    return _let_in(request, answer, services, needed).tenant


@dataclass(kw_only=True)
class UploadPlace:
    """The place of an upload: counted as an open render until the render is queued."""

    principal: Principal
    idempotency_key: str | None
    name: str
    services: Services
    held: bool = True

    @property
    def tenant(self) -> TenantId:
        """Whose place it is."""
        return self.principal.tenant

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
    request: Request,
    services: ServicesOf,
    credentials: _Credentials,
    needed: _Needs,
    idempotency_key: IdempotencyKey = None,
) -> AsyncIterator[UploadPlace]:
    """A place for the upload that came with the request; its body has not been read yet.

    Raises:
        ApiProblem: 401; 403; 429 when the tenant asks or uploads too much, or has too many open renders.
    """
    name = str(RenderId.new())
    answer = await services.door.enter(_key(credentials), needed, place=name, idempotency_key=idempotency_key)
    try:
        principal = _let_in(request, answer, services, needed)
    except ApiProblem:
        if answer.verdict is Verdict.IN and answer.principal is not None:
            await services.door.leave(answer.principal.tenant, place_of(name, idempotency_key))
        raise
    place = UploadPlace(principal=principal, idempotency_key=idempotency_key, name=name, services=services)
    keeping = asyncio.create_task(services.door.keep(place.tenant, place.place))
    try:
        yield place
    finally:
        keeping.cancel()
        await place.give_back()


def _key(credentials: HTTPAuthorizationCredentials | None) -> str:
    if credentials is None:
        raise _refusal("missing-credentials", "send Authorization: Bearer KEY", "WWW-Authenticate", "Bearer")
    return credentials.credentials


def _let_in(request: Request, answer: Answer, services: Services, needed: Needed) -> Principal:
    if answer.principal is not None:
        note_rate(request, answer.left)
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
    principal = answer.principal
    if principal is None:
        challenge, detail = 'Bearer error="invalid_token"', "the key is unknown, was revoked, or has ended"
        raise _refusal("invalid-credentials", detail, "WWW-Authenticate", challenge)
    note(**{TENANT: str(principal.tenant)})
    act_as(f"{'token' if principal.identity else 'key'}:{principal.key_id}")
    if answer.verdict is Verdict.WRONG_ORIGIN:
        raise _refusal("wrong-origin", f"pages of {needed.origin or 'no origin'} may not use it", "Connection", "close")
    if answer.verdict is Verdict.FORBIDDEN:
        challenge = f'Bearer error="insufficient_scope", scope="{needed.scope}"'
        has = (
            f"has {', '.join(principal.scopes)}"
            if principal.scopes
            else "is a client token, for renders of one identity"
        )
        detail = f"this needs a key with the scope {needed.scope}; yours {has}"
        raise _refusal("missing-scope", detail, "WWW-Authenticate", challenge)
    refuse_unknown_query(request)
    return principal


def too_many_renders(services: Services) -> ApiProblem:
    """The 429 of a tenant that has as many open renders as it may have."""
    limit = services.config.max_active_renders
    detail = f"at most {limit} renders may be queued or running; try again in about {PLACE_AGAIN_S} s"
    return _refusal("quota-exceeded", detail, "Retry-After", str(PLACE_AGAIN_S))


def _refusal(code: str, detail: str, header: str, value: str) -> ApiProblem:
    # Without the second header the server would go on to receive the body, however long it is.
    return ApiProblem(code, detail, {header: value, "Connection": "close"})


_CLIENT = [Scope.CLIENT.value]
Tenant = Annotated[TenantId, Security(current_tenant, scopes=_CLIENT)]
"""A route's parameter of this type is given the caller's tenant; without a valid key the answer is 401."""
Key = Annotated[Principal, Security(current_principal, scopes=_CLIENT)]
"""Who asks, by a key."""
Asker = Annotated[Principal, Security(current_principal, scopes=[*_CLIENT, Purpose.RENDERS.value])]
"""Who asks, by a key or by a client token, which sees one identity only."""
Lookup = Annotated[TenantId, Security(tenant_that_looks_up, scopes=_CLIENT)]
"""The same for a route whose answer is dear."""
_OPERATOR = [Scope.OPERATOR.value]
Operator = Annotated[TenantId, Security(current_tenant, scopes=_OPERATOR)]
"""As ``Tenant``, for a route about identities and how they are made: the key needs the scope `operator`."""
OperatorLookup = Annotated[TenantId, Security(tenant_that_looks_up, scopes=_OPERATOR)]
"""The same for a route whose answer is dear."""
Upload = Annotated[UploadPlace, Security(place_for_upload, scopes=[*_CLIENT, Purpose.RENDERS.value])]
"""The same for a route with a body: its tenant has a place for the render."""
Admin = Annotated[Principal, Security(current_principal, scopes=[Scope.ADMIN.value])]
"""A route's parameter of this type is given who asks; without a key of scope `admin` the answer is 403."""
