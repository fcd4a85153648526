"""Stores folders with a hash for every file: identity checkpoints.

A folder is stored as its files and, written last, a table ``files.json`` of their sizes and hashes. A folder whose
table is missing was not stored to the end; one whose files do not match the table is refused when it is fetched.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

from cluster.object_keys import KEY_PART, check_key, check_prefix
from cluster.storage import ObjectStore
from m2dao.errors import AlreadyExists, InputError, ObjectCorrupt
from m2dao.files import file_sha256, whole_folder
from m2dao.formats import FILE_TABLE


class FileEntry(TypedDict):
    """What the table says of one file."""

    sha256: str  # in hex
    bytes: int


@dataclass(frozen=True, kw_only=True)
class StoredFolder:
    """The file table of a stored folder."""

    files: dict[str, FileEntry]  # relative path -> hash and size
    sha256: str  # of the table as stored; together with the table it vouches for every byte of the folder

    @property
    def num_bytes(self) -> int:
        return sum(entry["bytes"] for entry in self.files.values())


def put_folder(store: ObjectStore, prefix: str, folder: Path) -> StoredFolder:
    """Store every file of ``folder`` under ``prefix`` (ends in a slash), and the file table last.

    Raises:
        InputError: the folder is missing, empty, or holds links or file names that cannot be keys.
    """
    folder = Path(folder)
    check_prefix(prefix)
    if not folder.is_dir():
        raise InputError(str(folder), "a folder to store", "no folder")
    files: dict[str, FileEntry] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InputError(str(path), "plain files and folders only", "a link or device")
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            check_key(prefix + name)
            if name == FILE_TABLE.manifest:
                raise InputError(str(path), "a folder without a file of that name", "one", "rename it")
            files[name] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    if not files:
        raise InputError(str(folder), "at least one file", "an empty folder")
    for name in files:
        store.put_file(prefix + name, folder / name)
    table = json.dumps({**FILE_TABLE.header, "files": files}, sort_keys=True).encode()
    store.put_bytes(prefix + FILE_TABLE.manifest, table, content_type="application/json")
    return StoredFolder(files=files, sha256=hashlib.sha256(table).hexdigest())


def describe_folder(store: ObjectStore, prefix: str, *, sha256: str | None = None) -> StoredFolder:
    """The file table of the folder under ``prefix``.

    Args:
        prefix: ends in a slash.
        sha256: what the table's hash must be, when it is known from elsewhere.

    Raises:
        UnknownObject: there is no (complete) folder.
        ObjectCorrupt: the table is not one of ours, or not the one expected.
    """
    key = check_prefix(prefix) + FILE_TABLE.manifest
    data = store.get_bytes(key, max_bytes=16 << 20)
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise ObjectCorrupt(key, f"sha256 {sha256}", found, "store the folder anew")
    return StoredFolder(files=_parse_table(key, data), sha256=found)


def get_folder(store: ObjectStore, prefix: str, dest: Path, *, sha256: str | None = None) -> StoredFolder:
    """Fetch the folder under ``prefix`` into ``dest``, which appears only when every hash is right.

    Args:
        prefix: ends in a slash.
        dest: must not exist.
        sha256: what the hash of the file table must be, when it is known from elsewhere.

    Raises:
        AlreadyExists: ``dest`` exists.
        UnknownObject: there is no (complete) folder.
        ObjectCorrupt: a hash or size is wrong.
    """
    dest = Path(dest)
    if dest.exists():
        raise AlreadyExists(str(dest), "a folder that does not exist yet", "one that does")
    stored = describe_folder(store, prefix, sha256=sha256)
    try:
        with whole_folder(dest, replace=False) as partial:
            for name, entry in stored.files.items():
                _get_checked(store, prefix + name, partial / name, entry["sha256"])
    except OSError as error:
        if not dest.exists():
            raise
        raise AlreadyExists(str(dest), "a folder that does not exist yet", "one that does") from error
    return stored


def _get_checked(store: ObjectStore, key: str, path: Path, sha256: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = store.get_file(key, path)
    if found != sha256:
        raise ObjectCorrupt(key, f"sha256 {sha256}", found, "store the folder anew")


def _parse_table(key: str, data: bytes) -> dict[str, FileEntry]:
    problem = ObjectCorrupt(key, f"a file table ({FILE_TABLE})", "something else", "store the folder anew")
    try:
        table = json.loads(data)
        files = table["files"]
        well_formed = (table["format"], table["version"]) == FILE_TABLE[:2] and isinstance(files, dict) and bool(files)
        for name, entry in files.items():
            # The names become paths on our disk: the same rule as for keys keeps them inside the folder.
            well_formed &= all(KEY_PART.fullmatch(part) for part in name.split("/"))
            well_formed &= bool(re.fullmatch("[0-9a-f]{64}", entry["sha256"])) and type(entry["bytes"]) is int
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise problem from error
    if not well_formed:
        raise problem
    return cast("dict[str, FileEntry]", files)
