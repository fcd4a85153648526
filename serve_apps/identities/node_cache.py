"""Downloaded identities on a node's disk: folders by content hash, shared by its replicas.

``<root>/<sha256>/`` is a whole, verified folder; it appears by a rename. ``<root>/<sha256>.lock`` is held shared by
those who read the folder and exclusively by whoever fetches or removes it, so that replicas (processes and threads)
fetch a folder once and never remove one that is being read. Locks go with their process: a killed replica holds none.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from m2dao.errors import ConfigError, ServiceError
from m2dao.files import locked

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PARTIAL = re.compile(r"\.?([0-9a-f]{64})\.partial")


class NodeCache:
    """Folders by content hash under a byte budget.

    Args:
        root: where; made when missing. Give it a disk that every replica of the node sees.
        byte_budget: bytes the folders may use together. Folders in use are kept even beyond it.
    """

    def __init__(self, root: Path, *, byte_budget: int):
        if byte_budget <= 0:
            raise ConfigError("node cache", "a positive byte budget", str(byte_budget))
        self._root = Path(root)
        self._byte_budget = byte_budget
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root.chmod(0o700)  # faces and voices: also in a folder that an earlier version made
        self._remove_partial()

    @contextlib.contextmanager
    def folder(self, sha256: str, fetch: Callable[[Path], object]) -> Iterator[Path]:
        """The folder with content ``sha256``, safe from removal until the block ends.

        Args:
            sha256: the content hash, 64 hex digits.
            fetch: called with a path that does not exist yet when the node does not have the folder; must verify
                what it writes there. Its errors pass through and leave nothing behind.
        """
        target = self._path(sha256)
        while True:
            with locked(self._lock_path(sha256), shared=True):
                if target.is_dir():
                    os.utime(target)  # the time of last use, which eviction goes by
                    yield target
                    return
            with locked(self._lock_path(sha256)):
                if not target.is_dir():
                    self._fetch(target, fetch)
            # The lock cannot be turned into a shared one in one step: look again.

    def remove(self, sha256: str) -> bool:
        """Delete a folder unless somebody is reading it; returns whether it is gone."""
        target = self._path(sha256)
        try:
            with locked(self._lock_path(sha256), wait_s=0):
                shutil.rmtree(target, ignore_errors=True)
                os.unlink(self._lock_path(sha256))
        except BlockingIOError:
            return False
        return True

    def held(self) -> dict[str, int]:
        """Content hash -> bytes on disk, least recently used first."""
        folders = [path for path in self._root.iterdir() if _SHA256.fullmatch(path.name)]
        aged = sorted((_mtime(path), path) for path in folders)
        return {path.name: _num_bytes(path) for _, path in aged}

    def _remove_partial(self) -> None:
        """Remove what killed processes fetched half of. Who fetches holds the lock of the folder."""
        for path in list(self._root.iterdir()):
            found = _PARTIAL.match(path.name)
            if found is not None:
                with contextlib.suppress(BlockingIOError), locked(self._lock_path(found[1]), wait_s=0):
                    shutil.rmtree(path, ignore_errors=True)

    def _fetch(self, target: Path, fetch: Callable[[Path], object]) -> None:
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed; we hold its lock now
        try:
            fetch(partial)
            _shut(partial)
            self._make_room(_num_bytes(partial))
            os.rename(partial, target)
        except FileNotFoundError as error:
            raise ServiceError(f"fetch of {target.name}", "a folder", "none") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _make_room(self, num_bytes: int) -> None:
        held = self.held()
        excess = sum(held.values()) + num_bytes - self._byte_budget
        for sha256, size in held.items():
            if excess <= 0:
                return
            if self.remove(sha256):
                excess -= size

    def _path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise ServiceError("content hash", "64 hex digits", repr(sha256))
        return self._root / sha256

    def _lock_path(self, sha256: str) -> Path:
        return self._root / f"{sha256}.lock"


def _shut(folder: Path) -> None:
    """Let nobody else read what is in a folder, even where it is moved to another place."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)


def _num_bytes(folder: Path) -> int:
    """Bytes of all files; 0 for a folder that is being removed."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _mtime(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0
