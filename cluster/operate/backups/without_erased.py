"""Takes out of the records of a backup what was erased since."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from cluster.ids import IdentityName, RecordingId, TenantId
from cluster.state import keys
from cluster.state.upkeep.erasures import Erased, api_key_path, identity_path, recording_path
from cluster.state.upkeep.records import Record


def all_without_erased(records: Iterable[Record], erased: Erased) -> tuple[list[Record], int]:
    """The records without what is erased, and how many of them were left out or cut.

    The room that recordings take is counted anew: a backup names no moment, and those that are erased take none.
    """
    kept: list[Record] = []
    num_cut = 0
    for record in records:
        left = without_erased(record, erased)
        num_cut += left != record
        if left is not None:
            kept.append(left)
    num_bytes, num_open = Counter[str](), Counter[str]()
    for record in kept:
        tenant, _, rest = record["key"].partition(":")
        if rest.startswith("recording:"):
            num_bytes[tenant] += int(record["value"]["bytes"])
            num_open[tenant] += record["value"]["state"] == "uploading"
    for number, record in enumerate(kept):
        tenant, _, rest = record["key"].partition(":")
        if rest == "stored":
            room = {"bytes": str(num_bytes[tenant]), "open": str(num_open[tenant])}
            kept[number] = {**record, "value": room}
    return kept, num_cut


def without_erased(record: Record, erased: Erased) -> Record | None:
    """The record without what is erased; None when nothing of it is left.

    Whatever else a tenant has leaves with the tenant. A recording has the path of its key: ``acme:recording:rec-7``
    leaves with ``acme/recording/rec-7``.
    """
    key, value = record["key"], record["value"]
    first, _, rest = key.partition(":")
    if key == keys.TENANTS:
        return _cut(record, [name for name in value if not erased.covers(name)])
    if first == "api-key":
        path = api_key_path(TenantId(value["tenant"]), value.get("key_id", ""))
        return None if erased.covers(path) else record
    if key == keys.DUE_RECORDINGS:
        return _cut(record, [pair for pair in value if not erased.covers(_recording(*pair[0].split(" ")))])
    if key in (keys.OPEN_BATCHES, keys.OUTBOXES):  # of "tenant id", the one without and the other with a time
        return _cut(record, [entry for entry in value if not erased.covers(_tenant_in(entry))])
    if first == "ledger":
        return _cut(record, _left(value, lambda name: erased.covers(_path_of_ref(name))))
    if erased.covers(key.replace(":", "/")):
        return None
    what, _, name = rest.partition(":")
    if what == "api-keys":
        return _cut(record, _left(value, lambda key_id: erased.covers(api_key_path(TenantId(first), key_id))))
    if what == "recordings":
        return _cut(record, [pair for pair in value if not erased.covers(_recording(first, pair[0]))])
    if what == "recordings-by-content":
        return _cut(record, {content: it for content, it in value.items() if not erased.covers(_recording(first, it))})
    if what == "stored-since":
        left = {name: since for name, since in value.items() if not name or not erased.covers(_path(first, name))}
        return _cut(record, left)
    if what == "batch-items":
        return _cut(record, {number: _item_without(first, text, erased) for number, text in value.items()})
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


def _tenant_in(entry: str | list[Any]) -> str:
    member = entry if isinstance(entry, str) else str(entry[0])
    return member.partition(" ")[0]


def _item_without(tenant: str, text: str, erased: Erased) -> str:
    """An item of a batch; one of an erased identity keeps its number, without the name."""
    if not erased.covers(_path(tenant, json.loads(text)["identity"])):
        return text
    return json.dumps({"identity": "erased", "status": "cancelled"})


def _path(tenant: str, identity: str, version: int | None = None) -> str:
    return identity_path(TenantId(tenant), IdentityName(identity), version)


def _recording(tenant: str, recording_id: str) -> str:
    return recording_path(TenantId(tenant), RecordingId(recording_id))


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
