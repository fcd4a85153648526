"""A backup as a folder: whole or not there, and checked byte by byte before it is used.

backup.json        what it is, and the sha256 of every other file
state.jsonl        the records of the state store, one a line
objects.jsonl      the objects: key, media type, sha256; their bytes are in objects/<sha256>, equal ones once
mlflow.db          MLflow's database, where it is the embedded one
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from m2dao.errors import AlreadyExists, InputError, ObjectCorrupt
from m2dao.files import file_sha256, hidden_beside, put_in_place
from m2dao.formats import BACKUP

STATE, OBJECTS, OBJECT_FILES, MLFLOW = "state.jsonl", "objects.jsonl", "objects", "mlflow.db"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup says of itself.

    Args:
        begun_s: Unix time when it was begun; what came later may be missing.
        last_erasure: the number of the last erasure before it was begun.
        erasures_key_id: tells the key of the ledger of erasures from others.
        pepper: fingerprint of the pepper that the API keys in it were made with.
        has_objects: whether it holds the objects; otherwise the object store is copied by its own tools.
        files: sha256 of every file.
    """

    begun_s: float
    last_erasure: int
    erasures_key_id: str
    pepper: str
    has_objects: bool
    files: Mapping[str, str]


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write to, which becomes ``folder`` when all went well; only its owner may look into it.

    Raises:
        AlreadyExists: ``folder`` is there.
    """
    if folder.exists():
        raise AlreadyExists(str(folder), "a name that is not taken", "one that is")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = hidden_beside(folder, f".{secrets.token_hex(4)}.partial")
    partial.mkdir(mode=0o700)
    try:
        yield partial
        put_in_place(partial, folder, replace=False)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, last of all files, and see that all of them are on the disk."""
    text = json.dumps({**BACKUP.header, **asdict(manifest)}, indent=1, sort_keys=True) + "\n"
    (folder / BACKUP.manifest).write_text(text, encoding="utf-8")
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def hashes_of(folder: Path) -> dict[str, str]:
    """The sha256 of every file but the manifest, by its name in the folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != BACKUP.manifest)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup, once every file was compared with it.

    Raises:
        InputError: this is no backup, or one of another release.
        ObjectCorrupt: a file is missing, was altered or does not belong to it.
    """
    path = folder / BACKUP.manifest
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(str(folder), f"a backup, with {BACKUP.manifest}", "none") from error
    except (OSError, ValueError) as error:
        raise ObjectCorrupt(str(path), "readable JSON", str(error), "take another backup") from error
    if not isinstance(values, dict) or (values.pop("format", None), values.pop("version", None)) != BACKUP[:2]:
        raise InputError(str(path), str(BACKUP), "another format", "use the release that made it")
    try:
        manifest = Manifest(**values)
    except TypeError as error:
        raise ObjectCorrupt(str(path), "the entries of a manifest", str(error), "take another backup") from error
    found = hashes_of(folder)
    for name in sorted({*found, *manifest.files}):
        if found.get(name) != manifest.files.get(name):
            expected = "a file of the hash in the manifest" if name in manifest.files else "no such file"
            got = "none" if name not in found else "another one" if name in manifest.files else "one"
            raise ObjectCorrupt(str(folder / name), expected, got, "take another backup")
    return manifest
