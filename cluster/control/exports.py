"""Packs a version for those who take it elsewhere: one tar of its safetensors, with its lineage."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from cluster.folders import get_folder
from cluster.ids import ModelRef
from cluster.scratch import scratch_folder
from cluster.state.store import StateStore
from cluster.state.versions import VersionDetails
from cluster.storage import ObjectStore
from m2dao.errors import UnknownIdentity

EXPORT = "export.tar"  # beside the version's files: it goes when they go
ABOUT = "version.json"
_SCRATCH = "m2dao-export-"
_URL_S = 3600


@dataclass(frozen=True, kw_only=True)
class Export:
    """A version as one file.

    Args:
        url: where to fetch it, without a key.
        url_s: for how many seconds.
        num_bytes: its size.
        name: as it is saved.
    """

    url: str
    url_s: int
    num_bytes: int
    name: str


class Exports:
    """Makes the exports of versions, each once.

    Args:
        state: knows the versions.
        store: has their files.
    """

    def __init__(self, state: StateStore, store: ObjectStore):
        self._state, self._store = state, store

    def make(self, ref: ModelRef) -> Export:
        """Pack a version, unless that was done before, and tell where to fetch it.

        Raises:
            ObjectCorrupt: its files are not those that were registered.
            UnknownIdentity: there is no such complete version.
        """
        facts = self._state.versions.facts(ref)
        key, name = ref.object_prefix + EXPORT, f"{ref.identity}-{ref.version}"
        if not self._store.exists(key):
            with scratch_folder(_SCRATCH) as scratch:
                folder = scratch / name
                get_folder(self._store, ref.object_prefix, folder, sha256=facts.files_sha256)
                self._describe(ref, folder / ABOUT)
                self._store.put_file(key, _pack(folder), content_type="application/x-tar")
            self._take_back_if_gone(ref, key)
        url = self._store.presign_get(key, expires_s=_URL_S, name=f"{name}.tar", download=True)
        return Export(url=url, url_s=_URL_S, num_bytes=self._store.head(key).num_bytes, name=f"{name}.tar")

    def _describe(self, ref: ModelRef, path: Path) -> None:
        (known,) = self._state.versions.details([ref])
        details = known or VersionDetails(ref=ref)
        facts = self._state.versions.facts(ref)
        about = {
            "identity": str(ref.identity),
            "version": ref.version,
            "format": facts.format,
            "files_sha256": facts.files_sha256,
            "lineage": dict(details.tags),
            "metrics": dict(details.metrics),
            "fit": None if details.fit_id is None else str(details.fit_id),
            "created_s": details.created_s,
        }
        path.write_text(json.dumps(about, indent=2, sort_keys=True), encoding="utf-8")

    def _take_back_if_gone(self, ref: ModelRef, key: str) -> None:
        """Leave nothing of a version that was deleted while it was packed."""
        try:
            self._state.versions.facts(ref)
        except UnknownIdentity:
            self._store.delete(key)
            raise


def _pack(folder: Path) -> Path:
    packed = folder.with_suffix(".tar")
    with tarfile.open(packed, "w") as archive:  # not compressed: the contents are floats
        archive.add(folder, arcname=folder.name)
    return packed
