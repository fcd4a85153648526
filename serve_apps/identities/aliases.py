"""From what a client asks for (``anna``, ``anna@champion``, ``anna@7``) to one pinned model ref.

Aliases move when a version is promoted, so they are resolved once, when a render is created, and the pinned ref is
kept with the render. The state store answers, so every ingress sees a promotion at once, with MLflow or without.
"""

from __future__ import annotations

from cluster.ids import AliasRef, IdentityName, ModelRef, TenantId
from cluster.state.champions import ChampionTable
from m2dao.errors import InvalidId, ServiceUnavailable, UnknownIdentity
from serve_apps.problems import ApiProblem


def resolve_identity(champions: ChampionTable, text: str, tenant: TenantId, *, key: str = "") -> ModelRef:
    """The pinned version that a client of ``tenant`` means by ``text``.

    Args:
        key: names the request. A share of the requests that name no version goes to the challenger, the same key
            always to the same version.

    Raises:
        ApiProblem: ``unknown-identity``, also for another tenant's; ``invalid-request`` for malformed text.
        ServiceUnavailable: identities of an earlier version have not been taken over yet, so nobody can tell.
    """
    ref = parse_identity(text, tenant)
    try:
        if "@" not in text and key:
            ref = _served(champions, ref, key)
        return champions.resolve(ref)
    except UnknownIdentity as error:
        if not champions.is_imported():
            raise ServiceUnavailable(
                f"identity {ref}", "identities to be taken over from MLflow", "not yet", "is the keeper running?"
            ) from error
        raise unknown_identity() from error


def _served(champions: ChampionTable, ref: ModelRef | AliasRef, key: str) -> ModelRef | AliasRef:
    """The version that serves a request of this name."""
    version = champions.get(ref.tenant, ref.identity).for_request(key)
    return ref if version is None else ModelRef(ref.tenant, ref.identity, version)


def parse_identity(text: str, tenant: TenantId) -> ModelRef | AliasRef:
    """What a client of ``tenant`` means by ``text``.

    ``anna`` and ``acme.anna`` mean the champion. A ref that names another tenant gets the answer that a missing
    identity gets, whether that tenant exists or not.

    Raises:
        ApiProblem: ``unknown-identity`` for another tenant's, ``invalid-request`` for malformed text.
    """
    name, at, version = text.partition("@")
    owner, dot, identity = name.rpartition(".")
    try:
        if dot and TenantId.parse(owner) != tenant:
            raise unknown_identity()
        who = IdentityName.parse(identity)
        if not at:
            return AliasRef(tenant, who)
        whole = f"{tenant}.{who}@{version}"
        return ModelRef.parse(whole) if version[:1].isdigit() else AliasRef.parse(whole)
    except InvalidId as error:
        fault = {"field": "identity", "detail": str(error)}
        raise ApiProblem("invalid-request", "identity is not well formed", errors=[fault]) from error


def unknown_identity() -> ApiProblem:
    """The answer for an identity that is not there, or not the caller's; always the same."""
    return ApiProblem("unknown-identity", "no identity, version or alias of that name")
