"""Takes out of the records of a backup what was erased since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.ids import IdentityName, TenantId
from cluster.state import keys
from cluster.state.upkeep.erasures import Erased, api_key_path, identity_path
from cluster.state.upkeep.records import Record


def without_erased(record: Record, erased: Erased) -> Record | None:
    """The record without what is erased; None when nothing of it is left.

    Records that this module does not know by name go by their key, with its parts as the parts of the path:
    ``acme:recording:7`` leaves with ``acme``, ``acme/recording`` and ``acme/recording/7``.
    """
    key, value = record["key"], record["value"]
    first, _, rest = key.partition(":")
    if key == keys.TENANTS:
        return _cut(record, [name for name in value if not erased.covers(name)])
    if first == "api-key":
        path = api_key_path(TenantId(value["tenant"]), value.get("key_id", ""))
        return None if erased.covers(path) else record
    if first == "ledger":
        return _cut(record, _left(value, lambda name: erased.covers(_path_of_ref(name))))
    if erased.covers(key.replace(":", "/")):
        return None
    what, _, name = rest.partition(":")
    if what == "api-keys":
        return _cut(record, _left(value, lambda key_id: erased.covers(api_key_path(TenantId(first), key_id))))
    if what == "identities":
        return _cut(record, [pair for pair in value if not erased.covers(_path(first, pair[0]))])
    if what in ("versions", "details", "verdicts"):
        return _cut(record, _left(value, lambda number: erased.covers(_path(first, name, int(number)))))
    if what == "moves":
        return None if erased.covers(_path(first, name)) else record
    if what == "champion":
        if erased.covers(_path(first, name)):
            return None
        aliases = ("version", "previous", "challenger")
        gone = {alias for alias in aliases if value.get(alias) and erased.covers(_path(first, name, int(value[alias])))}
        return _cut(record, {field: "" if field in gone else text for field, text in value.items()})
    return record


def _path(tenant: str, identity: str, version: int | None = None) -> str:
    return identity_path(TenantId(tenant), IdentityName(identity), version)


def _path_of_ref(text: str) -> str:
    """The path of ``acme.anna`` or ``acme.anna@7``."""
    name, _, number = text.partition("@")
    tenant, _, identity = name.partition(".")
    return _path(tenant, identity, int(number) if number else None) if identity else text


def _left(value: Any, is_erased: Callable[[str], bool]) -> Any:
    if isinstance(value, dict):
        return {name: entry for name, entry in value.items() if not is_erased(name)}
    return [name for name in value if not is_erased(name)] if isinstance(value, list) else value


def _cut(record: Record, value: Any) -> Record | None:
    return {**record, "value": value} if value else None
