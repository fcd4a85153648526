"""Makes a backup while the platform runs.

The state store is read first and objects after, so all that the records name is there: objects are written before the
record that names them. What is erased meanwhile has a higher number than the backup, so a restore leaves it out.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from cluster.operate.backups import archive
from cluster.operate.backups.archive import Manifest, hashes_of, new_folder, write_manifest
from cluster.operate.backups.ledger_file import key_id_of
from cluster.state.store import StateStore
from cluster.storage import ObjectStore
from m2dao.errors import SystemFault, UnknownObject
from m2dao.files import file_sha256


def make_backup(
    state: StateStore,
    folder: Path,
    *,
    store: ObjectStore | None,
    mlflow_db: Path | None,
    say: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Write a backup into ``folder``, which must not exist and appears only when it is whole.

    Args:
        state: whose records are saved.
        folder: where to.
        store: whose objects are saved; None when they are copied by the store's own tools.
        mlflow_db: MLflow's SQLite file; None when its database is copied by its own tools.
        say: is told what happens.

    Raises:
        AlreadyExists: ``folder`` is there.
    """
    with new_folder(folder) as partial:
        begun_s, last, key = time.time(), state.erasures.last(), state.erasures.key()
        count = _save_records(state, partial / archive.STATE)
        say(f"{count} records of the state store")
        if store is not None:
            count, num_bytes = _save_objects(store, partial)
            say(f"{count} objects, {num_bytes / 1e6:.1f} MB")
        if mlflow_db is not None:
            copy_database(mlflow_db, partial / archive.MLFLOW)
            say("the database of the model registry")
        manifest = Manifest(
            begun_s=begun_s,
            last_erasure=last,
            erasures_key_id=key_id_of(key),
            pepper=state.accounts.pepper_fingerprint(),
            has_objects=store is not None,
            files=hashes_of(partial),
        )
        write_manifest(partial, manifest)
    return manifest


def _save_records(state: StateStore, path: Path) -> int:
    count = 0
    with open(path, "w", encoding="utf-8") as file:
        for record in state.records.all():
            file.write(json.dumps(record) + "\n")
            count += 1
    return count


def _save_objects(store: ObjectStore, folder: Path) -> tuple[int, int]:
    """Copy all objects and list them; returns how many there are, and their bytes."""
    files = folder / archive.OBJECT_FILES
    files.mkdir()
    count = num_bytes = 0
    with open(folder / archive.OBJECTS, "w", encoding="utf-8") as table:
        for info in store.everything():
            with contextlib.suppress(UnknownObject):  # deleted meanwhile
                content_type = store.copy_out(info.key, files / "partial")
                sha256 = file_sha256(files / "partial")
                os.replace(files / "partial", files / sha256)
                table.write(json.dumps({"key": info.key, "content_type": content_type, "sha256": sha256}) + "\n")
                count, num_bytes = count + 1, num_bytes + info.num_bytes
    (files / "partial").unlink(missing_ok=True)
    return count, num_bytes


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite database as it is at one moment, also while others write to it.

    Raises:
        SystemFault: it is not there or damaged, or there is no room for the copy.
    """
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)) as there,
            contextlib.closing(sqlite3.connect(target)) as here,
        ):
            there.backup(here)
    except sqlite3.Error as error:
        wanted = f"a SQLite database, and room for its copy in {target.parent}"
        raise SystemFault(str(source), wanted, str(error), "is this the home of the stack that runs?") from error
