"""The hidden folder in which a capture is made, and how the next call goes on with it.

It lies beside the capture's place: ``.NAME.partial-KEY``. A lock on it says that a living process works there; without
one it is a killed process's, and the next that makes the same capture goes on in it. One that makes another capture
there removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

_TRIES = 5


class Claim(NamedTuple):
    """A folder that is ours alone while the handle is open."""

    folder: Path
    handle: int


def claim_place(out: Path, key: str | None) -> Claim:
    """A folder to make a capture in, and remove those of killed processes that made another one.

    Args:
        out: the capture's place.
        key: what decides its content; None makes each capture a new one.

    Raises:
        OSError: the place cannot be written.
    """
    parent, prefix = out.absolute().parent, f".{out.name}.partial-"
    parent.mkdir(parents=True, exist_ok=True)
    wanted = None if key is None else parent / f"{prefix}{key}"
    _remove_stale(parent, prefix, keep=wanted)
    claim = wanted and _claim_again(wanted)
    if not claim:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        claim = Claim(folder, _lock(folder))
    os.chmod(claim.folder, 0o755)
    return claim


def _claim_again(folder: Path) -> Claim | None:
    """The folder that everybody with this key uses; None if somebody is at work in it, or it is nothing of ours."""
    for _ in range(_TRIES):
        folder.mkdir(exist_ok=True)
        try:
            return Claim(folder, _lock(folder))
        except FileNotFoundError:  # its owner has just finished
            continue
        except OSError:
            return None
    return None


def _lock(folder: Path) -> int:
    """A handle that holds the folder's lock.

    ``m2dao.files.locked`` locks a file and makes it; here the folder itself is locked, must be no link and must be
    ours.

    Raises:
        BlockingIOError: somebody holds it.
        FileNotFoundError: another folder or none is at that path by now.
        OSError: a link, no folder, or somebody else's.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held, there = os.fstat(handle), os.stat(folder, follow_symlinks=False)
        if (held.st_dev, held.st_ino) != (there.st_dev, there.st_ino):
            raise FileNotFoundError(f"{folder} is another folder by now")
        if held.st_uid != os.geteuid():
            raise PermissionError(f"{folder} is somebody else's")
    except BaseException:
        os.close(handle)
        raise
    return handle


def _remove_stale(parent: Path, prefix: str, *, keep: Path | None) -> None:
    """Remove unfinished folders that nobody works in, but for one."""
    for folder in parent.glob(f"{prefix}*"):
        if folder == keep:
            continue
        try:
            handle = _lock(folder)
        except OSError:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


class Ledger:
    """Names and hashes of the files stored whole, kept beside them; one thread adds at a time.

    Args:
        path: of the ledger; whole lines that it holds are believed.
    """

    def __init__(self, path: Path):
        lines = path.read_text().splitlines() if path.is_file() else []
        self._hashes = dict(line.split(" ", 1)[::-1] for line in lines if line.count(" ") == 1)
        self._file = path.open("a")

    def add(self, name: str, sha256: str) -> None:
        """Note a file that is in its place."""
        self._file.write(f"{sha256} {name}\n")
        self._file.flush()

    def knows(self, name: str, sha256: str) -> bool:
        """Whether a former process stored just this."""
        return self._hashes.get(name) == sha256

    def close(self) -> None:
        """Close the file."""
        self._file.close()
