"""From a pinned model ref to a verified identity folder on this node, ready to be loaded.

The state store knows the hash of a version's file table, the table (in the object store) the hash of every file. The
folder is verified when it is fetched, and again whenever it is loaded into memory: the node's disk is shared and old.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.folders import StoredFolder, describe_folder, get_folder
from cluster.ids import ModelRef
from cluster.state.versions import VersionTable
from cluster.storage import ObjectStore
from m2dao.errors import CheckpointCorrupt
from m2dao.files import file_sha256
from serve_apps.identities.node_cache import NodeCache

log = logging.getLogger(__name__)
# Files are in half precision and a loaded talker is not. Most of its memory are features computed at load.
# Measured: 9.6 to 11.
MEMORY_PER_FILE_BYTE = 12


@dataclass(frozen=True, kw_only=True)
class FolderOnNode:
    """A verified identity folder; see ``talker_cache.PreparedIdentity``."""

    folder: Path
    num_bytes: int
    load_talker: Callable[[Path], Any]

    def load(self) -> Any:
        return self.load_talker(self.folder)


class IdentitySource:
    """Finds identities by pinned ref.

    Args:
        versions: knows the versions and their hashes.
        store: holds their files.
        disk: the node's copy.
        load_talker: ``load_talker`` with a backend, or what stands for it.
    """

    def __init__(
        self, *, versions: VersionTable, store: ObjectStore, disk: NodeCache, load_talker: Callable[[Path], Any]
    ):
        self._versions = versions
        self._store = store
        self._disk = disk
        self._load_talker = load_talker

    @contextlib.contextmanager
    def prepare(self, ref: ModelRef) -> Iterator[FolderOnNode]:
        """A context in which the identity is on this node and verified; see ``talker_cache.TalkerCache``.

        Raises:
            UnknownIdentity: there is no such complete version.
            ObjectCorrupt: the object store does not hold what was registered.
        """
        facts = self._versions.facts(ref)
        stored = describe_folder(self._store, ref.object_prefix, sha256=facts.files_sha256)

        def fetch(dest: Path) -> None:
            get_folder(self._store, ref.object_prefix, dest, sha256=facts.files_sha256)

        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(self._disk.folder(stored.sha256, fetch))
            fault = _fault(folder, stored)
            if fault is not None:
                log.error("a copy on disk was altered; fetching it anew", extra={"ref": str(ref), "file": fault})
                stack.close()
                self._disk.remove(stored.sha256)
                folder = stack.enter_context(self._disk.folder(stored.sha256, fetch))
                fault = _fault(folder, stored)
                if fault is not None:
                    raise CheckpointCorrupt(f"{fault} of {ref}", "the registered bytes", "others", "check the disk")
            num_bytes = stored.num_bytes * MEMORY_PER_FILE_BYTE
            yield FolderOnNode(folder=folder, num_bytes=num_bytes, load_talker=self._load_talker)


def _fault(folder: Path, stored: StoredFolder) -> str | None:
    """The first file that is not as registered, or None."""
    for name, entry in stored.files.items():
        try:
            if file_sha256(folder / name) != entry["sha256"]:
                return name
        except OSError:
            return name
    return None


def load_talker(folder: Path, *, backend: str) -> Any:
    """``m2dao.identity.Talker.load``; imported here so that only a replica pays for it."""
    from m2dao.identity.talker import Talker

    return Talker.load(folder, backend=backend)
