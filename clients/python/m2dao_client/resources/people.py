"""Who may ask, what was done, and what was used: API keys, client tokens, audit trail, usage."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from m2dao_client.models import (
    AuditEntry,
    AuditList,
    Key,
    KeyList,
    MadeKey,
    MadeToken,
    Token,
    TokenList,
    Usage,
    UsageList,
)
from m2dao_client.paths import path_of
from m2dao_client.resource import Awaited, Blocking, Resource, iteration, operation
from m2dao_client.session import new_key
from m2dao_client.steps import Call, Items

Scope = Literal["admin", "operator", "client"]


class KeyOperations(Resource):
    """What can be done with API keys."""

    @operation
    def create(
        self,
        *,
        label: str = "",
        scopes: tuple[Scope, ...] = ("client",),
        expires_in_s: int | None = None,
        once: str | None = None,
    ) -> Call[MadeKey]:
        """Make an API key. Its secret is in the answer and nowhere else."""
        wish = {"label": label, "scopes": list(scopes), "expires_in_s": expires_in_s}
        request = self._session.request("POST", "/v1/keys", once=once or new_key(), json=wish)
        return self._session.body(MadeKey, (yield from self._session.send(request)))

    @iteration
    def list(self) -> Items[Key]:
        """All your keys, the oldest first."""
        yield from self._session.items(KeyList, "/v1/keys", lambda page: page.keys)

    @operation
    def get(self, key_id: str) -> Call[Key]:
        """One key, without its secret."""
        return (yield from self._session.get(Key, path_of("v1", "keys", key_id)))

    @operation
    def rotate(
        self, key_id: str, *, overlap_s: int = 86_400, expires_in_s: int | None = None, once: str | None = None
    ) -> Call[MadeKey]:
        """Make a key in place of another; both let in for the overlap."""
        wish = {"overlap_s": overlap_s, "expires_in_s": expires_in_s}
        path = path_of("v1", "keys", key_id, "rotate")
        request = self._session.request("POST", path, once=once or new_key(), json=wish)
        return self._session.body(MadeKey, (yield from self._session.send(request)))

    @operation
    def revoke(self, key_id: str) -> Call[None]:
        """Void a key at once."""
        yield from self._session.send(self._session.request("DELETE", path_of("v1", "keys", key_id)))


class TokenOperations(Resource):
    """What can be done with client tokens."""

    @operation
    def create(
        self, identity: str, *, origin: str, expires_in_s: int = 900, once: str | None = None
    ) -> Call[MadeToken]:
        """Make a client token: pages of one origin may make renders of one identity with it."""
        wish = {"identity": identity, "origin": origin, "expires_in_s": expires_in_s}
        request = self._session.request("POST", "/v1/tokens", once=once or new_key(), json=wish)
        return self._session.body(MadeToken, (yield from self._session.send(request)))

    @iteration
    def list(self) -> Items[Token]:
        """All your client tokens that let in, the next to end first."""
        yield from self._session.items(TokenList, "/v1/tokens", lambda page: page.tokens)

    @operation
    def get(self, token_id: str) -> Call[Token]:
        """One client token, without its secret."""
        return (yield from self._session.get(Token, path_of("v1", "tokens", token_id)))

    @operation
    def revoke(self, token_id: str) -> Call[None]:
        """Void a client token at once."""
        yield from self._session.send(self._session.request("DELETE", path_of("v1", "tokens", token_id)))


class AuditOperations(Resource):
    """What can be read of the audit trail."""

    @iteration
    def list(self) -> Items[AuditEntry]:
        """All that was done on your behalf, the newest first."""
        yield from self._session.items(AuditList, "/v1/audit", lambda page: page.entries, cursor="before")


class UsageOperations(Resource):
    """What can be read of what was used."""

    @iteration
    def list(self, *, first: date | None = None, last: date | None = None, identity: str | None = None) -> Items[Usage]:
        """What you used, by day and identity, the oldest first.

        Args:
            first: the first day; left out, thirty days before the last.
            last: the last day; left out, today.
        """
        days = {"from": None if first is None else first.isoformat(), "to": None if last is None else last.isoformat()}
        filters: dict[str, Any] = {**days, "identity": identity}
        yield from self._session.items(UsageList, "/v1/usage", lambda page: page.usage, **filters)


class Keys(KeyOperations, Blocking):
    """Keys, for code that waits."""


class AsyncKeys(KeyOperations, Awaited):
    """Keys, for code with an event loop."""


class Tokens(TokenOperations, Blocking):
    """Client tokens, for code that waits."""


class AsyncTokens(TokenOperations, Awaited):
    """Client tokens, for code with an event loop."""


class Audit(AuditOperations, Blocking):
    """The audit trail, for code that waits."""


class AsyncAudit(AuditOperations, Awaited):
    """The audit trail, for code with an event loop."""


class UsageReport(UsageOperations, Blocking):
    """Usage, for code that waits."""


class AsyncUsageReport(UsageOperations, Awaited):
    """Usage, for code with an event loop."""
