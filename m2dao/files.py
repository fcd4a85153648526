"""Files and folders that are whole or not there, their hashes, and locks between processes.

Nobody sees a half-written file or folder under its own name, whenever the writing process dies. What a killed process
leaves behind begins with a dot and ends in ``.partial`` before its suffix.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_POLL_S = 0.1


def file_sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes ``path`` when all went well and vanishes otherwise.

    It lies beside ``path`` and ends in the same suffix, for writers that look at it.
    """
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def whole_folder(folder: Path, *, replace: bool = True) -> Iterator[Path]:
    """An empty folder to write to, which becomes ``folder`` when all went well and vanishes otherwise.

    Args:
        replace: whether a folder that is there already makes way; otherwise it stays and this raises OSError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)
        put_in_place(partial, folder, replace=replace)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def put_in_place(made: Path, folder: Path, *, replace: bool = True) -> None:
    """Rename a folder to ``folder``; what was there before is moved aside first and then removed.

    Raises:
        OSError: a folder with something in it is there and may not be replaced, or the place cannot be written.
    """
    retired = None
    if replace and folder.is_dir() and any(folder.iterdir()):  # an empty folder is replaced by the renaming
        retired = made.with_name(f"{made.name}.old")
        os.replace(folder, retired)
    os.replace(made, folder)
    if retired is not None:
        shutil.rmtree(retired, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, wait_s: float = math.inf) -> Iterator[None]:
    """Hold the lock of the file ``path``; it is made where missing and may be removed meanwhile.

    The lock ends with the process that holds it, however that process ends.

    Args:
        shared: several may hold the lock together, but not beside one who wants it alone.
        wait_s: how long to wait for others.

    Raises:
        BlockingIOError: somebody else still holds it after ``wait_s``.
    """
    deadline = time.monotonic() + wait_s
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _take(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, deadline)
            # A lock on a file that was removed meanwhile protects nothing: only the file of that name counts.
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                    yield
                    return
        finally:
            os.close(descriptor)


def _take(descriptor: int, how: int, deadline: float) -> None:
    if deadline == math.inf:
        fcntl.flock(descriptor, how)
        return
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)
