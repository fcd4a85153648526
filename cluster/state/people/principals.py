"""Who asks: a tenant's API key, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cluster.ids import TenantId
from m2dao.errors import UnknownKey


class Scope(StrEnum):
    """What a key may do. A key has one or several; none implies another."""

    ADMIN = "admin"  # who may ask: keys
    OPERATOR = "operator"  # what may be asked for: identities and their versions
    CLIENT = "client"  # asking: renders, and the list of identities


USUAL_SCOPES = (Scope.CLIENT,)  # of a key that was made without any, and of all keys made before there were scopes


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Whose key came with a request, and what it may do."""

    tenant: TenantId
    key_id: str
    scopes: tuple[Scope, ...]


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
    """Scopes as they are stored; keys made before there were scopes have none there."""
    return tuple(Scope(word) for word in text.split(",")) if text else USUAL_SCOPES
