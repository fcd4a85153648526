"""Makes a platform of a backup, without what was erased since.

The records of the state store come last: until they are there, nothing can be served. What the ledger of erasures
covers is never written, and is deleted from the model registry before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.operate.backups import archive
from cluster.operate.backups.archive import Manifest, read_manifest
from cluster.operate.backups.ledger_file import LedgerFile, key_id_of
from cluster.operate.backups.without_erased import all_without_erased
from cluster.platform import Platform
from cluster.state import keys
from cluster.state.seats import KEEPER
from cluster.state.upkeep.erasures import Erased, identity_path
from cluster.state.upkeep.records import Record
from m2dao.errors import ConfigError, Conflict, InputError, ObjectCorrupt
from m2dao.formats import FILE_TABLE


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a restore did.

    Args:
        num_records: of the state store.
        num_objects: put back.
        num_erased: records and objects of the backup that were left out or cut, for they were erased since.
        incomplete: versions whose files are not in the object store.
    """

    num_records: int
    num_objects: int
    num_erased: int
    incomplete: tuple[str, ...]


def restore(
    platform: Platform,
    folder: Path,
    *,
    ledger: LedgerFile | None,
    put_mlflow: Callable[[Path], None] | None,
    say: Callable[[str], None] = lambda line: None,
) -> Restored:
    """Restore a backup into empty services. Cut off, it can be begun again on emptied ones.

    Args:
        platform: the services; no keeper and no application may run on them.
        folder: the backup.
        ledger: what was erased, as exported last; None when nothing was erased since the backup.
        put_mlflow: puts a database into the embedded model registry; None when the site's own has its database back.
        say: is told what happens.

    Raises:
        InputError: this is no backup, or the ledger is another platform's or older than the backup.
        ObjectCorrupt: it is damaged.
        ConfigError: its API keys were made with another pepper.
        Conflict: the services are not empty, or somebody works on them.
    """
    say("comparing every file of the backup with its hash")
    manifest = read_manifest(folder)
    records = _read_lines(folder / archive.STATE)
    key = _erasures_key(records, manifest)
    if ledger is not None:
        _check_ledger(ledger, manifest)
    _check_ready(platform, manifest)
    entries = {} if ledger is None else ledger.entries
    erased = Erased(key, frozenset(digest for digest, number in entries.items() if number > manifest.last_erasure))
    if manifest.has_objects:
        num_objects, num_left = _put_objects(platform, folder, erased)
        say(f"{num_objects} objects are back")
    else:
        num_objects, num_left = 0, _delete_objects(platform, erased)
    if put_mlflow is not None and (folder / archive.MLFLOW).exists():
        put_mlflow(folder / archive.MLFLOW)
        say("the database of the model registry is back")
    _erase_from_registry(platform, erased)
    kept, num_cut = all_without_erased(records, erased)
    num_records = platform.state.records.put(_with_erasures(kept, entries))
    say(f"{num_records} records are back")
    return Restored(
        num_records=num_records,
        num_objects=num_objects,
        num_erased=num_left + num_cut,
        incomplete=tuple(_incomplete(platform)),
    )


def _read_lines(path: Path) -> list[Record]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _with_erasures(records: list[Record], entries: Mapping[str, int]) -> list[Record]:
    """The records, with all erasures before the others.

    Of two numbers of an erasure the higher one counts. A restore that is cut off amid the records must not have
    forgotten an erasure.
    """
    merged, others = dict(entries), []
    for record in records:
        if record["key"] != keys.ERASURES:
            others.append(record)
            continue
        for digest, number in record["value"]:
            merged[digest] = max(int(number), merged.get(digest, 0))
    if not merged:
        return others
    pairs = sorted([digest, number] for digest, number in merged.items())
    return [Record(key=keys.ERASURES, type="zset", value=pairs, until_ms=None), *others]


def _erasures_key(records: list[Record], manifest: Manifest) -> bytes:
    found = next((record["value"] for record in records if record["key"] == keys.ERASURES_KEY), "")
    key = bytes.fromhex(found)
    if key_id_of(key) != manifest.erasures_key_id:
        raise ObjectCorrupt("the backup", "the key of its ledger of erasures", "another", "take another backup")
    return key


def _check_ledger(ledger: LedgerFile, manifest: Manifest) -> None:
    if ledger.key_id != manifest.erasures_key_id:
        raise InputError("the ledger of erasures", "that of the platform of this backup", "another one's")
    last = max(ledger.entries.values(), default=0)
    if last < manifest.last_erasure:
        expected = f"one exported after the backup, which has erasure {manifest.last_erasure}"
        remedy = "give the ledger that was exported last; what it lacks would come back"
        raise InputError("the ledger of erasures", expected, f"one that ends with erasure {last}", remedy)


def _check_ready(platform: Platform, manifest: Manifest) -> None:
    ours = platform.state.accounts.pepper_fingerprint()
    if ours != manifest.pepper:
        remedy = "set the pepper of the platform that was saved; backups do not hold it"
        raise ConfigError("M2DAO_KEY_PEPPER", f"the one with the fingerprint {manifest.pepper}", ours, remedy)
    remedy = "restore into services that hold nothing yet"
    if platform.state.accounts.list_tenants():
        raise Conflict("the state store", "no tenants", "some", remedy)
    if platform.state.seats.is_held(KEEPER):
        raise Conflict("the platform", "no keeper at work", "one", "stop it, and start it again after the restore")
    platform.store.ensure_bucket()
    if manifest.has_objects and any(not info.key.startswith("mlflow/") for info in platform.store.everything()):
        raise Conflict("the object store", "an empty bucket", "objects", remedy)


def _put_objects(platform: Platform, folder: Path, erased: Erased) -> tuple[int, int]:
    """Put objects back; returns how many, and how many were left out."""
    count = left = 0
    with open(folder / archive.OBJECTS, encoding="utf-8") as table:
        for line in table:
            entry = json.loads(line)
            if _covers(erased, entry["key"]):
                left += 1
                continue
            platform.store.copy_in(entry["key"], folder / archive.OBJECT_FILES / entry["sha256"], entry["content_type"])
            count += 1
    return count, left


def _delete_objects(platform: Platform, erased: Erased) -> int:
    """Delete what was erased from a store whose copy may have brought it back; returns how many objects."""
    found = [info for info in platform.store.everything() if _covers(erased, info.key)]
    for info in found:
        platform.store.delete_found(info)
    return len(found)


def _covers(erased: Erased, key: str) -> bool:
    """Whether an object is erased; what MLflow keeps of a tenant lies in a folder of the tenant's name."""
    return erased.covers(key.removeprefix("mlflow/"))


def _erase_from_registry(platform: Platform, erased: Erased) -> None:
    """Delete from the model registry what was erased since its database was copied."""
    if not erased.hashes:
        return
    registry = platform.registry
    for info, _ in list(registry.ledger.versions()):
        if erased.covers(identity_path(info.ref.tenant, info.ref.identity, info.ref.version)):
            registry.delete_entry(info.ref)
    for entry in list(registry.ledger.identities()):
        if erased.covers(identity_path(entry.tenant, entry.identity)):
            registry.delete_model(entry.tenant, entry.identity)


def _incomplete(platform: Platform) -> Iterator[str]:
    """The versions whose file table is not there."""
    state = platform.state
    for tenant in state.accounts.list_tenants():
        for info in state.champions.identities(tenant):
            for number in info.versions:
                path = identity_path(tenant, info.identity, number)
                if not platform.store.exists(f"{path}/{FILE_TABLE.manifest}"):
                    yield f"{tenant}.{info.identity}@{number}"
