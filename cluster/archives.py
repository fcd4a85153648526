"""Stores folders of thousands of small files as one object each: captures, step checkpoints.

One object is stored whole or not at all, so a reader never meets half a capture, and a step checkpoint can be
replaced in place. Both sides are ours, yet unpacking trusts nothing: no links, no devices, nothing outside the folder.
"""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path

from cluster.storage import ObjectStore
from m2dao.errors import ObjectCorrupt, UnknownObject
from m2dao.files import put_in_place


def put_archive(store: ObjectStore, key: str, folder: Path) -> None:
    """Store ``folder`` as one object under ``key``, replacing what is there."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".pack-") as scratch:
        packed = Path(scratch) / "folder.tar"
        with tarfile.open(packed, "w") as archive:  # not compressed: the contents are jpeg, png and floats
            archive.add(folder, arcname=".")
        store.put_file(key, packed, content_type="application/x-tar")


def get_archive(store: ObjectStore, key: str, folder: Path) -> bool:
    """Fetch the folder stored under ``key`` into ``folder``, replacing what is there.

    Returns:
        whether there was such an object.

    Raises:
        ObjectCorrupt: it is not an archive of plain files.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as scratch:
        packed, unpacked = Path(scratch) / "folder.tar", Path(scratch) / "folder"
        try:
            store.get_file(key, packed)
        except UnknownObject:
            return False
        unpacked.mkdir()
        try:
            with tarfile.open(packed, "r:") as archive:
                archive.extractall(unpacked, filter="data")
        except tarfile.TarError as error:
            raise ObjectCorrupt(key, "an archive of plain files", str(error), "delete the object") from error
        put_in_place(unpacked, folder)
    return True
