"""``/v1/tokens``: what a tenant's web pages may hold."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from cluster.control.people.tokens import Tokens
from cluster.state.people.tokens import TokenInfo
from serve_apps.api.authentication import IdempotencyKey, Key, once_of
from serve_apps.api.bodies import people as schemas
from serve_apps.api.bodies.json_body import body_of, json_body
from serve_apps.api.bodies.times import utc
from serve_apps.api.openapi import made, made_with_secret, problem_responses
from serve_apps.api.services import ServicesOf

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])


async def _tokens(services: ServicesOf, key: Key) -> Tokens:
    return Tokens(services.state.tokens, made_by=key.key_id)


UseCases = Annotated[Tokens, Depends(_tokens)]


@router.post(
    "",
    status_code=201,
    operation_id="createToken",
    response_model=schemas.MadeToken,
    openapi_extra=body_of(schemas.NewToken),
    responses={**made(), **problem_responses(400, 401, 404, 408, 409, 413, 415, 422, 429)},
)
def create_token(
    response: Response,
    key: Key,
    tokens: UseCases,
    new: Annotated[schemas.NewToken, json_body(schemas.NewToken)],
    idempotency_key: IdempotencyKey = None,
) -> schemas.MadeToken:
    """Make a client token: pages of one origin may make renders of one identity with it."""
    token = tokens.make(
        key.tenant, new.identity, origin=new.origin, life_s=new.expires_in_s, once=once_of(idempotency_key)
    )
    made_with_secret(response, f"{router.prefix}/{token.info.token_id}")
    return schemas.MadeToken(token=token.token, **_fields(token.info))


@router.get("", operation_id="listTokens", response_model=schemas.TokenList, responses=problem_responses(401, 422, 429))
def list_tokens(
    key: Key,
    tokens: UseCases,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    after: Annotated[
        str, Query(pattern=r"^([0-9]{15}-[0-9a-f]{12})?$", description="`next` of the page before; the first: empty.")
    ] = "",
) -> schemas.TokenList:
    """Your client tokens that let in, the next to end first, without their secrets."""
    infos, following = tokens.page(key.tenant, after=after, limit=limit)
    return schemas.TokenList(tokens=[schemas.Token(**_fields(info)) for info in infos], next=following)


@router.get(
    "/{token_id}", operation_id="getToken", response_model=schemas.Token, responses=problem_responses(401, 404, 429)
)
def get_token(key: Key, tokens: UseCases, token_id: str) -> schemas.Token:
    """One client token, without its secret."""
    return schemas.Token(**_fields(tokens.get(key.tenant, token_id)))


@router.delete(
    "/{token_id}",
    status_code=204,
    operation_id="revokeToken",
    responses={204: {"description": "It lets nobody in any more."}, **problem_responses(401, 404, 429)},
)
def revoke_token(key: Key, tokens: UseCases, token_id: str) -> None:
    """Void a client token at once."""
    tokens.revoke(key.tenant, token_id)


def _fields(info: TokenInfo) -> dict[str, Any]:
    return {
        "id": info.token_id,
        "identity": str(info.identity),
        "purpose": info.purpose.value,
        "origin": info.origin,
        "made_by": info.made_by,
        "created_at": utc(info.created_s),
        "expires_at": utc(info.ends_s),
    }
