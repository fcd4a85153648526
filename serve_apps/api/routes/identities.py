"""``/v1/identities``: the people a tenant can render, their versions, and which version serves."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response

from cluster.state.champions import Champion
from serve_apps.api import schemas
from serve_apps.api.authentication import IdempotencyKey, Lookup, Operator, OperatorLookup
from serve_apps.api.bodies.json_body import body_of, json_body
from serve_apps.api.bodies.queries import Limit
from serve_apps.api.openapi import problem_responses
from serve_apps.api.resources.identities import (
    ChallengerBody,
    ChallengeRequest,
    ChampionBody,
    ExportBody,
    Identities,
    IdentityBody,
    MoveList,
    PromotionRequest,
    VersionBody,
    VersionList,
    champion_body,
)
from serve_apps.api.services import ServicesOf
from serve_apps.problems import ApiProblem

router = APIRouter(prefix="/v1/identities", tags=["identities"])
_ETAG = {"headers": {"ETag": {"required": True, "schema": {"type": "string"}}}}
_EPOCH = re.compile(r'"(\d{1,15})"')


async def _identities(services: ServicesOf) -> Identities:
    return Identities(services.platform)


Found = Annotated[Identities, Depends(_identities)]
IfMatch = Annotated[
    str | None,
    Header(max_length=100, description="The `ETag` of the champion that you have seen; `*` for any champion."),
]


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


@router.get(
    "/{identity}",
    operation_id="getIdentity",
    response_model=IdentityBody,
    responses=problem_responses(401, 404, 429),
)
def get_identity(tenant: Operator, found: Found, identity: str) -> IdentityBody:
    """One person, with what stands for them."""
    return found.get(tenant, identity)


@router.delete(
    "/{identity}",
    status_code=204,
    operation_id="deleteIdentity",
    response_class=Response,
    responses=problem_responses(401, 404, 409, 429),
)
async def delete_identity(tenant: OperatorLookup, services: ServicesOf, found: Found, identity: str) -> None:
    """Delete a person: it serves no more at once, and every version goes with its files."""
    await services.turns.run(tenant, found.delete, tenant, identity)


@router.get(
    "/{identity}/versions",
    operation_id="listVersions",
    response_model=VersionList,
    responses=problem_responses(401, 404, 422, 429),
)
def list_versions(
    tenant: Operator,
    found: Found,
    identity: str,
    limit: Limit = 20,
    after: Annotated[
        str, Query(pattern=r"^([1-9][0-9]{0,8})?$", description="`next` of the page before; the first: empty.")
    ] = "",
) -> VersionList:
    """The versions of a person, the newest first, with their lineage and what the gate said."""
    return found.versions(tenant, identity, after=int(after) if after else None, limit=limit)


@router.get(
    "/{identity}/versions/{version}",
    operation_id="getVersion",
    response_model=VersionBody,
    responses=problem_responses(401, 404, 429),
)
def get_version(tenant: Operator, found: Found, identity: str, version: str) -> VersionBody:
    """One version, with its lineage, its metrics and what the gate said."""
    return found.version(tenant, identity, version)


@router.delete(
    "/{identity}/versions/{version}",
    status_code=204,
    operation_id="deleteVersion",
    response_class=Response,
    responses=problem_responses(401, 404, 409, 429),
)
async def delete_version(
    tenant: OperatorLookup, services: ServicesOf, found: Found, identity: str, version: str
) -> None:
    """Delete a version with its files. One for which an alias stands stays: 409."""
    await services.turns.run(tenant, found.delete_version, tenant, identity, version)


@router.post(
    "/{identity}/versions/{version}/export",
    operation_id="exportVersion",
    response_model=ExportBody,
    responses=problem_responses(401, 404, 429),
)
async def export_version(
    tenant: OperatorLookup, services: ServicesOf, found: Found, identity: str, version: str
) -> ExportBody:
    """A version as one tar of safetensors, to take it elsewhere. The first time takes some seconds."""
    return await services.turns.run(tenant, found.export, tenant, identity, version)


@router.get(
    "/{identity}/champion",
    operation_id="getChampion",
    response_model=ChampionBody,
    responses={200: {"description": "What stands for it.", **_ETAG}, **problem_responses(401, 404, 429)},
)
def get_champion(tenant: Operator, found: Found, response: Response, identity: str) -> ChampionBody:
    """Which version serves."""
    return _answer(found.champion(tenant, identity), response)


@router.put(
    "/{identity}/champion",
    operation_id="putChampion",
    response_model=ChampionBody,
    openapi_extra=body_of(PromotionRequest),
    responses={
        200: {"description": "What stands for it now.", **_ETAG},
        **problem_responses(400, 401, 404, 408, 409, 412, 413, 415, 422, 428, 429),
    },
)
async def put_champion(
    tenant: OperatorLookup,
    services: ServicesOf,
    found: Found,
    response: Response,
    identity: str,
    wish: Annotated[PromotionRequest, json_body(PromotionRequest)],
    if_match: IfMatch = None,
) -> ChampionBody:
    """Make a version the champion, if it passes the gate and can be rendered. It takes some seconds."""
    epoch = _required_epoch(if_match)
    champion = await services.turns.run(tenant, found.promote, tenant, identity, wish, epoch)
    return _answer(champion, response)


@router.get(
    "/{identity}/challenger",
    operation_id="getChallenger",
    response_model=ChallengerBody,
    responses={200: {"description": "The challenger.", **_ETAG}, **problem_responses(401, 404, 429)},
)
def get_challenger(tenant: Operator, found: Found, response: Response, identity: str) -> ChallengerBody:
    """Which version is tried beside the champion, and how the renders of both end."""
    return _tagged(found.challenger(tenant, identity), response)


@router.put(
    "/{identity}/challenger",
    operation_id="putChallenger",
    response_model=ChallengerBody,
    openapi_extra=body_of(ChallengeRequest),
    responses={
        200: {"description": "The challenger now.", **_ETAG},
        **problem_responses(400, 401, 404, 408, 409, 412, 413, 415, 422, 428, 429),
    },
)
async def put_challenger(
    tenant: OperatorLookup,
    services: ServicesOf,
    found: Found,
    response: Response,
    identity: str,
    wish: Annotated[ChallengeRequest, json_body(ChallengeRequest)],
    if_match: IfMatch = None,
) -> ChallengerBody:
    """Let a share of the renders go to a version. Where too many fail, it is withdrawn."""
    epoch = _required_epoch(if_match)
    return _tagged(await services.turns.run(tenant, found.challenge, tenant, identity, wish, epoch), response)


@router.delete(
    "/{identity}/challenger",
    operation_id="deleteChallenger",
    response_model=ChallengerBody,
    responses={200: {"description": "There is none now.", **_ETAG}, **problem_responses(401, 404, 412, 429)},
)
def delete_challenger(
    tenant: OperatorLookup, found: Found, response: Response, identity: str, if_match: IfMatch = None
) -> ChallengerBody:
    """Withdraw the challenger: all renders go to the champion."""
    epoch = None if if_match is None else _epoch(if_match)
    return _tagged(found.withdraw(tenant, identity, epoch), response)


@router.post(
    "/{identity}/rollback",
    operation_id="rollBack",
    response_model=ChampionBody,
    responses={
        200: {"description": "What stands for it now.", **_ETAG},
        **problem_responses(401, 404, 409, 412, 422, 429),
    },
)
async def roll_back(
    tenant: OperatorLookup,
    services: ServicesOf,
    found: Found,
    response: Response,
    identity: str,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> ChampionBody:
    """Make the previous champion the champion again; a second rollback undoes the first.

    Send `Idempotency-Key` to repeat a request whose answer was lost: it rolls back once.
    """
    epoch = None if if_match is None else _epoch(if_match)
    request = ""
    if idempotency_key is not None:
        request = "rollback-" + hashlib.sha256(f"{identity} {idempotency_key}".encode()).hexdigest()
    return _answer(await services.turns.run(tenant, found.roll_back, tenant, identity, epoch, request), response)


@router.get(
    "/{identity}/champion/history",
    operation_id="listChampionMoves",
    response_model=MoveList,
    responses=problem_responses(401, 404, 429),
)
def list_champion_moves(tenant: Operator, found: Found, identity: str) -> MoveList:
    """How the champion has moved, the newest move first."""
    return found.history(tenant, identity)


def _answer(champion: Champion, response: Response) -> ChampionBody:
    response.headers["ETag"] = f'"{champion.epoch}"'
    return champion_body(champion)


def _tagged(body: ChallengerBody, response: Response) -> ChallengerBody:
    response.headers["ETag"] = f'"{body.epoch}"'
    return body


def _required_epoch(if_match: str | None) -> int | None:
    if if_match is None:
        raise ApiProblem("precondition-required", "send If-Match with the ETag of the champion that you have seen")
    return _epoch(if_match)


def _epoch(if_match: str) -> int | None:
    """The epoch that a client names; None for any. What names none of ours matches nothing."""
    if if_match.strip() == "*":
        return None
    found = _EPOCH.fullmatch(if_match.strip())
    return int(found[1]) if found else -1
