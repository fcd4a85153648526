"""Who asks: a route with a parameter of type ``Tenant`` answers only to a valid API key."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from cluster.ids import TenantId
from serve_apps.api.services import ServicesOf
from serve_apps.problems import ApiProblem

_bearer = HTTPBearer(auto_error=False, description="An API key of the tenant, made by `m2dao-cluster key create`.")


def current_tenant(
    services: ServicesOf, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> TenantId:
    """Whose API key came with the request.

    Raises:
        ApiProblem: 401.
    """
    if credentials is None:
        raise ApiProblem("missing-credentials", "send Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})
    tenant = services.state.accounts.authenticate(credentials.credentials)
    if tenant is None:
        challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise ApiProblem("invalid-credentials", "the key is unknown or was revoked", challenge)
    return tenant


Tenant = Annotated[TenantId, Depends(current_tenant)]
"""A route's parameter of this type is given the caller's tenant; without a valid key the answer is 401."""
