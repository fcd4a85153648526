"""Bodies of the routes about who may ask."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ScopeName = Literal["admin", "operator", "client"]
_YEARS_10_S = 10 * 365 * 86400
_DAYS_30_S = 30 * 86400


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NewKey(_Body):
    """An API key to be made."""

    label: str = Field(default="", max_length=80, description="A note for the list of keys.", examples=["website"])
    scopes: list[ScopeName] = Field(
        default=["client"],
        min_length=1,
        max_length=3,
        description="What it may do: `client` renders, `operator` makes identities, `admin` manages who may ask.",
    )
    expires_in_s: int | None = Field(
        default=None, ge=1, le=_YEARS_10_S, description="Seconds until it ends by itself; null: never."
    )


class KeyRotation(_Body):
    """How a key is replaced."""

    overlap_s: int = Field(
        default=86_400, ge=0, le=_DAYS_30_S, description="Seconds for which both keys let in; 0 ends the old one now."
    )
    expires_in_s: int | None = Field(
        default=None,
        ge=1,
        le=_YEARS_10_S,
        description="Seconds until the new one ends by itself; null: it lives as long as the old one was to.",
    )


class Key(_Body):
    """An API key, without its secret."""

    id: str = Field(examples=["0b1c2d3e4f5a"])
    label: str = Field(description="The note it was made with.")
    scopes: list[ScopeName] = Field(description="What it may do.")
    created_at: datetime
    expires_at: datetime | None = Field(description="When it ends by itself; null: never.")
    last_used_at: datetime | None = Field(description="Noted once a minute; null: never used.")
    replaced_by: str | None = Field(description="The key that a rotation made in its place.")


class MadeKey(Key):
    """An API key at the one moment at which its secret can be seen."""

    key: str = Field(description="The secret, to be sent as `Authorization: Bearer KEY`. It is not kept.")


class KeyList(_Body):
    """Keys of the tenant, the oldest first."""

    keys: list[Key]
    next: str | None = Field(description="Where the next page begins: ask again with `after` set to it. null: no more.")


class NewToken(_Body):
    """A client token to be made."""

    identity: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", description="The only one whose renders it makes.", examples=["anna"]
    )
    origin: str = Field(
        max_length=300,
        pattern=r"^https?://[a-z0-9.\[\]:_-]+$",
        description="Of the pages that may use it.",
        examples=["https://app.example.com"],
    )
    expires_in_s: int = Field(default=900, ge=1, le=3600, description="Seconds until it ends.")


class Token(_Body):
    """A client token, without its secret."""

    id: str = Field(examples=["5a4f3e2d1c0b"])
    identity: str = Field(description="The only one whose renders it makes.")
    purpose: Literal["renders"] = Field(description="`renders`: to make renders, and to follow them.")
    origin: str = Field(description="Of the pages that may use it.")
    made_by: str = Field(description="The key that asked for it, and with which it ends; empty for a command.")
    created_at: datetime
    expires_at: datetime


class MadeToken(Token):
    """A client token at the one moment at which its secret can be seen."""

    token: str = Field(description="The secret, to be sent as `Authorization: Bearer TOKEN`. It is not kept.")


class TokenList(_Body):
    """Client tokens of the tenant that let in, the next to end first."""

    tokens: list[Token]
    next: str | None = Field(description="Where the next page begins: ask again with `after` set to it. null: no more.")


class AuditEntry(_Body):
    """One act."""

    id: str = Field(examples=["1764547200000-0"])
    at: datetime
    by: str = Field(description="Who: `key:ID`, `token:ID`, `command:USER`, `keeper` or `platform`.")
    what: str = Field(description="Such as `promote`, `delete-version`, `create-key`.", examples=["promote"])
    on: str = Field(description="Such as `identity:anna` or `key:ID`.", examples=["identity:anna"])
    before: str = Field(description="From what, such as a version; empty where that says nothing.", examples=["6"])
    after: str = Field(description="To what.", examples=["7"])


class AuditList(_Body):
    """Acts on behalf of the tenant, the newest first."""

    entries: list[AuditEntry]
    next: str | None = Field(
        description="Where the next page begins: ask again with `before` set to it. null: no more."
    )
