"""``/v1/keys``: a tenant's API keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from cluster.control.people.keys import Keys
from cluster.state.people.principals import ApiKeyInfo, KeyTerms, NewApiKey, Scope
from serve_apps.api.authentication import Admin, IdempotencyKey, once_of
from serve_apps.api.bodies import people as schemas
from serve_apps.api.bodies.json_body import body_of, json_body
from serve_apps.api.bodies.times import utc
from serve_apps.api.openapi import made, made_with_secret, problem_responses
from serve_apps.api.services import ServicesOf

router = APIRouter(prefix="/v1/keys", tags=["keys"])


async def _keys(services: ServicesOf) -> Keys:
    return Keys(services.state.accounts)


UseCases = Annotated[Keys, Depends(_keys)]


@router.post(
    "",
    status_code=201,
    operation_id="createKey",
    response_model=schemas.MadeKey,
    openapi_extra=body_of(schemas.NewKey),
    responses={**made(), **problem_responses(400, 401, 408, 409, 413, 415, 422, 429)},
)
def create_key(
    response: Response,
    admin: Admin,
    keys: UseCases,
    new: Annotated[schemas.NewKey, json_body(schemas.NewKey)],
    idempotency_key: IdempotencyKey = None,
) -> schemas.MadeKey:
    """Make an API key. Its secret is in this answer and nowhere else."""
    scopes = tuple(Scope(scope) for scope in new.scopes)
    terms = KeyTerms(label=new.label, scopes=scopes, life_s=new.expires_in_s)
    return _made(keys.make(admin.tenant, terms, once=once_of(idempotency_key)), response)


@router.get("", operation_id="listKeys", response_model=schemas.KeyList, responses=problem_responses(401, 422, 429))
def list_keys(
    admin: Admin,
    keys: UseCases,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 100,
    after: Annotated[
        str, Query(pattern=r"^([0-9]{1,15}-[0-9a-f]{12})?$", description="`next` of the page before; the first: empty.")
    ] = "",
) -> schemas.KeyList:
    """Your API keys, the oldest first, without their secrets. Ended ones stay until revoked."""
    infos, following = keys.page(admin.tenant, after=after, limit=limit)
    return schemas.KeyList(keys=[schemas.Key(**_fields(info)) for info in infos], next=following)


@router.get("/{key_id}", operation_id="getKey", response_model=schemas.Key, responses=problem_responses(401, 404, 429))
def get_key(admin: Admin, keys: UseCases, key_id: str) -> schemas.Key:
    """One API key, without its secret."""
    return schemas.Key(**_fields(keys.get(admin.tenant, key_id)))


@router.post(
    "/{key_id}/rotate",
    status_code=201,
    operation_id="rotateKey",
    response_model=schemas.MadeKey,
    openapi_extra=body_of(schemas.KeyRotation),
    responses={**made(), **problem_responses(400, 401, 404, 408, 409, 413, 415, 422, 429)},
)
def rotate_key(
    response: Response,
    admin: Admin,
    keys: UseCases,
    key_id: str,
    how: Annotated[schemas.KeyRotation, json_body(schemas.KeyRotation)],
    idempotency_key: IdempotencyKey = None,
) -> schemas.MadeKey:
    """Make a key in place of another. Both let in for the overlap, then the old one ends."""
    once = once_of(idempotency_key)
    new = keys.rotate(admin.tenant, key_id, overlap_s=how.overlap_s, life_s=how.expires_in_s, once=once)
    return _made(new, response)


@router.delete(
    "/{key_id}",
    status_code=204,
    operation_id="revokeKey",
    responses={204: {"description": "It lets nobody in any more."}, **problem_responses(401, 404, 429)},
)
def revoke_key(admin: Admin, keys: UseCases, key_id: str) -> None:
    """Void a key at once."""
    keys.revoke(admin.tenant, key_id)


def _made(new: NewApiKey, response: Response) -> schemas.MadeKey:
    made_with_secret(response, f"{router.prefix}/{new.info.key_id}")
    return schemas.MadeKey(key=new.key, **_fields(new.info))


def _fields(info: ApiKeyInfo) -> dict[str, Any]:
    return {
        "id": info.key_id,
        "label": info.label,
        "scopes": list(info.scopes),
        "created_at": utc(info.created_s),
        "expires_at": utc(info.ends_s),
        "last_used_at": utc(info.used_s),
        "replaced_by": info.successor,
    }
