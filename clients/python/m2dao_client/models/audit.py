"""Bodies of the API: audit.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from datetime import datetime

from m2dao_client.models.base import Model


class AuditEntry(Model):
    """One act."""

    id: str
    at: datetime
    by: str
    """Who: `key:ID`, `token:ID`, `command:USER`, `keeper` or `platform`."""
    what: str
    """Such as `promote`, `delete-version`, `create-key`."""
    on: str
    """Such as `identity:anna` or `key:ID`."""
    before: str
    """From what, such as a version; empty where that says nothing."""
    after: str
    """To what."""


class AuditList(Model):
    """Acts on behalf of the tenant, the newest first."""

    entries: list[AuditEntry]
    next: str | None
    """Where the next page begins: ask again with `before` set to it. null: no more."""
