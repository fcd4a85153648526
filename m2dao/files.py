"""Files and folders that are whole or not there, their hashes, and locks between processes.

Nobody sees a half-written file or folder under its own name, whenever the writing process dies. What a killed process
leaves behind begins with a dot and ends in ``.partial`` before its suffix.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import math
import os
import secrets
import shutil
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from m2dao.errors import InputError

_POLL_S = 0.1
_USUAL_NAME_MAX = 255
# What a lock on a file that is open for reading and writing answers where the file system has none.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def file_sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def name_max(folder: Path) -> int:
    """The most bytes that a name in ``folder`` may have."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):  # a folder that is not there yet, or a system that does not tell
        return _USUAL_NAME_MAX


def hidden_beside(path: Path, end: str) -> Path:
    """A hidden name beside ``path`` that begins like its own and ends in ``end``, however long its own is."""
    start = f".{path.name}"
    room = name_max(path.parent) - len(os.fsencode(end))
    if len(os.fsencode(start)) > room:
        start = os.fsencode(start)[:room].decode("utf-8", "ignore")
    return path.with_name(start + end)


def check_place(path: Path) -> None:
    """Return when there is a folder for a new file, so that no work is done in vain.

    Raises:
        InputError: there is none.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(str(path), "a file in a folder that is there", f"no folder {folder}", "make it first")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes ``path`` when all went well and vanishes otherwise.

    It lies beside ``path`` and ends in the same suffix, for writers that look at it.
    """
    partial = hidden_beside(path.with_suffix(""), f".{secrets.token_hex(4)}.partial{path.suffix}")
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
    partial = hidden_beside(folder, f".{secrets.token_hex(4)}.partial")
    partial.mkdir(mode=0o700)
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
        retired = hidden_beside(made, ".old")
        os.replace(folder, retired)
    os.replace(made, folder)
    if retired is not None:
        shutil.rmtree(retired, ignore_errors=True)


@contextlib.contextmanager
def locked(
    path: Path, *, shared: bool = False, wait_s: float = math.inf, optional: bool = False
) -> Generator[bool, None, None]:
    """Hold the lock of the file ``path``; it is made where missing and may be removed meanwhile.

    The lock ends with the process that holds it, however that process ends. The file is opened for reading and writing:
    NFS gives an exclusive lock for no other.

    Args:
        shared: several may hold the lock together, but not beside one who wants it alone.
        wait_s: how long to wait for others.
        optional: go on without a lock where the file system has none, as some shared folders.

    Yields:
        whether the lock is held.

    Raises:
        BlockingIOError: somebody else still holds it after ``wait_s``.
        OSError: the file cannot be made, or there are no locks and they are not optional.
    """
    deadline = time.monotonic() + wait_s
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            held = _take(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, deadline, optional)
            # A lock on a file that was removed meanwhile protects nothing: only the file of that name counts.
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                    yield held
                    return
        finally:
            os.close(descriptor)


def _take(descriptor: int, how: int, deadline: float, optional: bool) -> bool:
    """Take a lock; False where there is none to be had and it is optional."""
    try:
        if deadline == math.inf:
            fcntl.flock(descriptor, how)
            return True
        while not _taken(descriptor, how):
            if time.monotonic() > deadline:
                raise BlockingIOError(errno.EWOULDBLOCK, "somebody else holds the lock")
            time.sleep(_POLL_S)
    except OSError as error:
        if not optional or error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _taken(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
