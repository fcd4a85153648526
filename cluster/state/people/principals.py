"""Who asks: a tenant's API key, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cluster.ids import IdentityName, TenantId
from m2dao.errors import UnknownKey


class Scope(StrEnum):
    """What a key may do. A key has one or several; none implies another."""

    ADMIN = "admin"  # who may ask: keys
    OPERATOR = "operator"  # what may be asked for: identities and their versions
    CLIENT = "client"  # asking: renders, and the list of identities


USUAL_SCOPES = (Scope.CLIENT,)  # of a key that was made without any, and of all keys made before there were scopes


class Purpose(StrEnum):
    """What a client token is for."""

    RENDERS = "renders"  # to make renders of one identity, and to follow them


@dataclass(frozen=True, kw_only=True)
class Needed:
    """What a request must bring.

    Args:
        scope: of an API key.
        purpose: of a client token, where one is enough; None where none is.
        origin: where the page is from that asks; empty for what is no page.
    """

    scope: Scope
    purpose: Purpose | None = None
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Whose key or client token came with a request, and what it may do.

    Args:
        tenant: on whose behalf it asks.
        key_id: the name of the key or token.
        scopes: of a key; a token has none.
        identity: the only one that a token is good for; None for a key.
    """

    tenant: TenantId
    key_id: str
    scopes: tuple[Scope, ...]
    identity: IdentityName | None = None

    def sees(self, identity: IdentityName) -> bool:
        """Whether there is such an identity as far as this principal may know."""
        return self.identity is None or self.identity == identity


@dataclass(frozen=True, kw_only=True)
class KeyTerms:
    """What a new API key is for.

    Args:
        label: a note for the list of keys, up to 80 characters.
        scopes: what it may do.
        life_s: seconds until it ends by itself; None for never.
    """

    label: str = ""
    scopes: tuple[Scope, ...] = USUAL_SCOPES
    life_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class ApiKeyInfo:
    """What is known of an API key; the key itself was shown once and is not kept.

    Args:
        key_id: its name.
        label: a note.
        scopes: what it may do.
        created_s, ends_s, used_s: Unix times. ``ends_s`` is None for a key that does not end by itself, ``used_s`` for
            one that was never used; the latter is written once a minute.
        successor: the key that a rotation made in its place.
    """

    key_id: str
    label: str
    scopes: tuple[Scope, ...]
    created_s: float
    ends_s: float | None = None
    used_s: float | None = None
    successor: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewApiKey:
    """An API key at the one moment at which it can be seen."""

    tenant: TenantId
    key: str
    info: ApiKeyInfo


def unknown_key() -> UnknownKey:
    """The error about a key that is not there, or is another tenant's: always the same."""
    return UnknownKey("API key", "one of the tenant's", "none of that name", "look at the list of keys")


def scopes_of(text: str | None) -> tuple[Scope, ...]:
    """Scopes as they are stored, without those of a later release; keys older than scopes have none there."""
    return tuple(Scope(word) for word in text.split(",") if word in set(Scope)) if text else USUAL_SCOPES
