"""Temporary folders of work on this node: none outlives its process for long.

They hold faces and voices. The owner of a folder holds a lock in it. A lock ends with its process, however that ends;
so a folder whose lock can be taken is nobody's, and whoever starts next on this node removes it.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from m2dao.files import locked

_LOCK = ".owner"
_NEW_S = 2.0  # a folder this young may be one whose owner is about to take its lock


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A new temporary folder, which is removed when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        with locked(folder / _LOCK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(prefix: str) -> int:
    """Remove the folders of this prefix whose process is dead; returns how many."""
    count = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # in use, another user's, or gone by now
            if time.time() - folder.stat().st_mtime < _NEW_S or not (folder / _LOCK).is_file():
                continue
            with locked(folder / _LOCK, wait_s=0):
                shutil.rmtree(folder)
                count += 1
    return count
