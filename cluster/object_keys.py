"""Keys of the object store. Every one begins with its tenant: ``acme/identities/anna/7/files.json``."""

from __future__ import annotations

import re

from cluster.ids import TenantId
from m2dao.errors import InvalidId

KEY_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=-]{0,199}")  # no dot first: neither ".." nor hidden files


def object_key(tenant: TenantId, *parts: str) -> str:
    """The key of one of a tenant's objects.

    Args:
        tenant: whose object it is.
        parts: path parts; each may itself hold slashes.

    Raises:
        InvalidId: a part is empty, begins with a dot or has characters that are not safe everywhere.
    """
    if not isinstance(tenant, TenantId):
        raise TypeError(f"object_key takes a TenantId, not {type(tenant).__name__}")
    return check_key("/".join((str(tenant), *parts)))


def check_key(key: str) -> str:
    """``key`` itself, when it is well formed.

    Raises:
        InvalidId: it is not.
    """
    tenant, *parts = key.split("/")
    TenantId.parse(tenant)
    if not parts or len(key) > 900 or not all(KEY_PART.fullmatch(part) for part in parts):
        shown = key if len(key) <= 80 else key[:77] + "..."
        raise InvalidId(
            "object key", "TENANT/PART/... of letters, digits and ._=- (no part begins with a dot)", repr(shown)
        )
    return key


def check_prefix(prefix: str) -> str:
    """``prefix`` itself, when it is a tenant's name or key, ended by a slash.

    Raises:
        InvalidId: it is not.
    """
    if not prefix.endswith("/"):
        raise InvalidId("object prefix", "a slash at the end", repr(prefix[:80]))
    if prefix.count("/") == 1:
        TenantId.parse(prefix[:-1])
    else:
        check_key(prefix[:-1])
    return prefix
