"""Files on this machine: what is sent, and what is fetched."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

_PIECE = 1 << 20


@dataclass(frozen=True)
class Transfer:
    """How far an upload or a download is."""

    num_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class FileFacts:
    """What a file is known by."""

    num_bytes: int
    sha256: str


def facts_of(path: Path) -> FileFacts:
    """Size and hash of a file."""
    found = hashlib.sha256()
    num_bytes = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
            num_bytes += len(piece)
    return FileFacts(num_bytes, found.hexdigest())


def part_of(path: Path, begin: int, num_bytes: int) -> bytes:
    """Some bytes of a file."""
    with path.open("rb") as file:
        file.seek(begin)
        return file.read(num_bytes)


class Arriving:
    """A file that arrives: its name stands only for the whole of it.

    Args:
        path: where it is to be.
    """

    def __init__(self, path: Path):
        self._path, self._partial = path, path.with_name(f"{path.name}.partial")
        self._hash = hashlib.sha256()
        self._file = self._partial.open("wb")
        self.num_bytes = 0

    def add(self, piece: bytes) -> None:
        """Write the next bytes."""
        self._file.write(piece)
        self._hash.update(piece)
        self.num_bytes += len(piece)

    def finish(self, sha256: str) -> bool:
        """Give the file its name; False if its bytes are not those that were announced, and it is gone."""
        self._file.close()
        if self._hash.hexdigest() != sha256:
            self._partial.unlink()
            return False
        os.replace(self._partial, self._path)
        return True

    def give_up(self) -> None:
        """Leave nothing behind, if it is not finished."""
        if not self._file.closed:
            self._file.close()
            self._partial.unlink(missing_ok=True)
