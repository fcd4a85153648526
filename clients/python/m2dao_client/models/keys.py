"""Bodies of the API: keys.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from m2dao_client.models.base import Model


class Key(Model):
    """An API key, without its secret."""

    id: str
    label: str
    """The note it was made with."""
    scopes: list[Literal["admin", "operator", "client"]]
    """What it may do."""
    created_at: datetime
    expires_at: datetime | None
    """When it ends by itself; null: never."""
    last_used_at: datetime | None
    """Noted once a minute; null: never used."""
    replaced_by: str | None
    """The key that a rotation made in its place."""


class KeyList(Model):
    """Keys of the tenant, the oldest first."""

    keys: list[Key]
    next: str | None
    """Where the next page begins: ask again with `after` set to it. null: no more."""


class MadeKey(Model):
    """An API key at the one moment at which its secret can be seen."""

    id: str
    label: str
    """The note it was made with."""
    scopes: list[Literal["admin", "operator", "client"]]
    """What it may do."""
    created_at: datetime
    expires_at: datetime | None
    """When it ends by itself; null: never."""
    last_used_at: datetime | None
    """Noted once a minute; null: never used."""
    replaced_by: str | None
    """The key that a rotation made in its place."""
    key: str
    """The secret, to be sent as `Authorization: Bearer KEY`. It is not kept."""
