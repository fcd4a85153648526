"""Client tokens of a tenant: make, list, revoke."""

from __future__ import annotations

from cluster.ids import IdentityName, TenantId
from cluster.state.new_jobs import Once
from cluster.state.people.tokens import ClientTokens, NewToken, TokenInfo, TokenTerms
from m2dao.errors import InputError

USUAL_LIFE_S = 900


class Tokens:
    """What may be done about client tokens, by whoever may.

    Args:
        tokens: where they are kept.
        made_by: the id of the API key that asks; empty for a command.
    """

    def __init__(self, tokens: ClientTokens, *, made_by: str = ""):
        self._tokens, self._made_by = tokens, made_by

    def make(
        self, tenant: TenantId, identity: str, *, origin: str, life_s: float, once: Once | None = None
    ) -> NewToken:
        """Make a token for renders of an identity by pages of an origin.

        Raises:
            UnknownIdentity: the tenant has no such identity.
            InputError: a name, an origin or a life that cannot be.
            IdempotencyConflict: another token was asked for under the same name.
            Conflict: the tenant has as many tokens as it may have.
        """
        name = IdentityName.parse(identity)
        terms = TokenTerms(identity=name, origin=_origin(origin), life_s=life_s, made_by=self._made_by)
        return self._tokens.make(tenant, terms, once=once)

    def page(self, tenant: TenantId, *, after: str = "", limit: int = 100) -> tuple[list[TokenInfo], str | None]:
        """Some of the tokens that let in, the next to end first, and where the next page begins.

        Args:
            after: what the page before gave; empty for the first.
            limit: how many at most.
        """
        return self._tokens.page(tenant, after=after, limit=limit)

    def get(self, tenant: TenantId, token_id: str) -> TokenInfo:
        """One token.

        Raises:
            UnknownToken: the tenant has no such token, or it has ended.
        """
        return self._tokens.get(tenant, token_id)

    def revoke(self, tenant: TenantId, token_id: str) -> None:
        """Void a token at once.

        Raises:
            UnknownToken: the tenant has no such token, or it has ended.
        """
        self._tokens.revoke(tenant, token_id)


def _origin(text: str) -> str:
    from cluster.checks.values import is_origins  # pydantic takes a while to load

    try:
        origin = is_origins(text)
    except ValueError:
        origin = ""
    # Browsers write names in small letters and leave out the usual port.
    if origin in ("", "*") or "," in origin or origin != origin.lower() or len(origin) > 300:
        raise InputError("origin", "https://HOST[:PORT] in small letters", repr(text[:60]))
    return origin
