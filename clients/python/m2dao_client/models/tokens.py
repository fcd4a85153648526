"""Bodies of the API: tokens.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from m2dao_client.models.base import Model


class MadeToken(Model):
    """A client token at the one moment at which its secret can be seen."""

    id: str
    identity: str
    """The only one whose renders it makes."""
    purpose: Literal["renders"]
    """`renders`: to make renders, and to follow them."""
    origin: str
    """Of the pages that may use it."""
    made_by: str
    """The key that asked for it, and with which it ends; empty for a command."""
    created_at: datetime
    expires_at: datetime
    token: str
    """The secret, to be sent as `Authorization: Bearer TOKEN`. It is not kept."""


class Token(Model):
    """A client token, without its secret."""

    id: str
    identity: str
    """The only one whose renders it makes."""
    purpose: Literal["renders"]
    """`renders`: to make renders, and to follow them."""
    origin: str
    """Of the pages that may use it."""
    made_by: str
    """The key that asked for it, and with which it ends; empty for a command."""
    created_at: datetime
    expires_at: datetime


class TokenList(Model):
    """Client tokens of the tenant that let in, the next to end first."""

    tokens: list[Token]
    next: str | None
    """Where the next page begins: ask again with `after` set to it. null: no more."""
