"""Client tokens: what a web page may hold.

Each is for one identity, pages of one origin, and an hour at most.

A token leaves Redis by itself when it ends. It is found by its keyed hash, as an API key is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.ids import IdentityName, TenantId
from cluster.state import keys, scripts
from cluster.state.accounts import TOKEN_PREFIX, Accounts
from cluster.state.link import AsyncRedisLink, RedisLink, new_nonce
from cluster.state.new_jobs import Once, idempotency_conflict
from cluster.state.people.audit import AuditTrail
from cluster.state.people.drafts import Draft
from cluster.state.people.principals import Purpose
from m2dao.errors import Conflict, InputError, UnknownIdentity, UnknownToken

LONGEST_LIFE_S = 3600
_MOST_TOKENS = 10_000  # of a tenant at the same time
_NAME_AT = 16  # in the list of ends, behind 15 digits and a hyphen


@dataclass(frozen=True, kw_only=True)
class TokenTerms:
    """What a client token is for.

    Args:
        identity: the only one whose renders it makes.
        origin: of the pages that may use it, such as ``https://app.example.com``.
        life_s: seconds until it ends.
        made_by: the id of the API key that asks for it, and with which it ends; empty for a command.
        purpose: what it is for.
    """

    identity: IdentityName
    origin: str
    life_s: float = 900
    made_by: str = ""
    purpose: Purpose = Purpose.RENDERS


@dataclass(frozen=True, kw_only=True)
class TokenInfo:
    """What is known of a client token, which was shown once and is not kept. Times are Unix times."""

    token_id: str
    identity: IdentityName
    origin: str
    purpose: Purpose
    made_by: str
    created_s: float
    ends_s: float


@dataclass(frozen=True, kw_only=True)
class NewToken:
    """A client token at the one moment at which it can be seen."""

    token: str
    info: TokenInfo


class ClientTokens:
    """The client tokens of all tenants. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink, accounts: Accounts, audit: AuditTrail):
        self._link, self._accounts, self._audit = link, accounts, audit

    def make(self, tenant: TenantId, terms: TokenTerms, *, once: Once | None = None) -> NewToken:
        """Make a token and return it.

        Args:
            tenant: on whose behalf it asks.
            terms: what it is for.
            once: a client's own name for the request. Asking again under it answers with the same token.

        Raises:
            UnknownIdentity: the tenant has no such identity.
            InputError: it would live too long, or not at all.
            IdempotencyConflict: another token was asked for under the same name.
            Conflict: the tenant has as many tokens as it may have, or the one made under this name has ended.
        """
        self._accounts.check_pepper()
        if not 1 <= terms.life_s <= LONGEST_LIFE_S:
            raise InputError("life of a client token", f"1 to {LONGEST_LIFE_S} seconds", f"{terms.life_s:g}")
        wanted = [str(terms.identity), terms.origin, round(terms.life_s * 1000), terms.made_by]
        draft = Draft("client-token", tenant, wanted, once)
        digest = self._accounts.digest(self._accounts.secret(TOKEN_PREFIX, draft.seed))
        names = [keys.identities(tenant), keys.client_token(digest), *keys.client_tokens(tenant), draft.entry]
        args = [
            str(tenant),
            draft.name,
            digest,
            *wanted,
            *draft.rest,
            _MOST_TOKENS,
            terms.purpose,
            self._audit.signature(),
        ]
        outcome, *more = self._link.run(scripts.CREATE_TOKEN, [*names, keys.CLIENT_ORIGINS], args)
        if outcome != "made" and outcome != "same":
            raise _refusal(outcome)
        token_id, seed = more
        try:
            info = self.get(tenant, token_id)
        except UnknownToken:  # its name stays in the list for a while
            raise _refusal("gone") from None
        token = self._accounts.secret(TOKEN_PREFIX, seed)
        self._accounts.require_found("client token", keys.client_token(self._accounts.digest(token)), token_id)
        return NewToken(token=token, info=info)

    def page(self, tenant: TenantId, *, after: str = "", limit: int = 100) -> tuple[list[TokenInfo], str | None]:
        """Some of the tokens that let in, the next to end first, and where the next page begins.

        Args:
            after: what the page before gave; empty for the first.
            limit: how many at most.
        """
        table, ends = keys.client_tokens(tenant)
        low = max(f"{round(time.time() * 1000):015d}", after)
        members = self._link.call("ZRANGEBYLEX", ends, f"({low}", "+", "LIMIT", 0, limit + 1)
        shown = members[:limit]
        ids = [member[_NAME_AT:] for member in shown]
        known = self._link.call("HMGET", table, *ids) if ids else []
        found = [(token_id, text[_NAME_AT:]) for token_id, text in zip(ids, known, strict=True) if text is not None]
        entries = self._link.hashes([keys.client_token(digest) for _, digest in found])
        infos = [_info(token_id, entry) for (token_id, _), entry in zip(found, entries, strict=True) if entry]
        return infos, shown[-1] if len(members) > limit else None

    def get(self, tenant: TenantId, token_id: str) -> TokenInfo:
        """One token that lets in.

        Raises:
            UnknownToken: the tenant has no such token, or it has ended.
        """
        known = self._link.call("HGET", keys.client_tokens(tenant)[0], token_id)
        entry = {} if known is None else self._link.hash(keys.client_token(known[_NAME_AT:]))
        if not entry:
            raise unknown_token()
        return _info(token_id, entry)

    def revoke(self, tenant: TenantId, token_id: str) -> None:
        """Void a token at once.

        Raises:
            UnknownToken: the tenant has no such token, or it has ended.
        """
        names = [*keys.client_tokens(tenant), keys.answer(new_nonce())]
        if not self._link.run(scripts.REVOKE_TOKEN, names, [token_id, str(tenant), self._audit.signature()]):
            raise unknown_token()


async def has_tokens(link: AsyncRedisLink, origin: str) -> bool:
    """Whether pages of an origin hold a token that has not ended. A revoked one counts until its end."""
    ends_ms = await link.call("ZSCORE", keys.CLIENT_ORIGINS, origin)
    return ends_ms is not None and float(ends_ms) > time.time() * 1000


def unknown_token() -> UnknownToken:
    """The error about a token that is not there, or is another tenant's: always the same."""
    return UnknownToken("client token", "one of the tenant's that has not ended", "none of that name")


def _refusal(outcome: str) -> Conflict | UnknownIdentity:
    match outcome:
        case "no-identity":
            return UnknownIdentity("identity", "one of the tenant's", "none of that name", "fit it first")
        case "conflict":
            return idempotency_conflict()
        case "gone":
            return Conflict("client token", "one that lets in", "one that has ended", "use a new idempotency key")
    assert outcome == "full", outcome
    return Conflict("client tokens", f"at most {_MOST_TOKENS} at a time", "one more", "let them end sooner")


def _info(token_id: str, entry: Mapping[str, str]) -> TokenInfo:
    return TokenInfo(
        token_id=token_id,
        identity=IdentityName(entry["identity"]),
        origin=entry["origin"],
        purpose=Purpose(entry["scopes"]),
        made_by=entry["parent"],
        created_s=float(entry["created"]) / 1000,
        ends_s=float(entry["ends"]) / 1000,
    )
