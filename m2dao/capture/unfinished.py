"""The hidden folder in which a capture is made, and how the next call goes on with it.

It lies beside the capture's place: ``.NAME.partial-KEY``. A lock on the file ``.NAME.partial-KEY.lock`` says that a
living process works there; without one it is a killed process's, and the next that makes the same capture goes on in
it. One that makes another capture there removes it. Some shared folders have no locks: there everybody works in a
folder of their own, and what a killed process left stays.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
from contextlib import ExitStack, suppress
from pathlib import Path

from m2dao.files import hidden_beside, locked, name_max

_TOKEN_BYTES = 8
_LOCK = ".lock"


class Claim:
    """A folder that is ours alone until it is given up.

    Args:
        folder: the folder.
        held: what is closed to give its lock back.
    """

    def __init__(self, folder: Path, held: ExitStack):
        self.folder = folder
        self._held = held

    def give_up(self, *, remove: bool) -> None:
        """Let others have it.

        Args:
            remove: the folder as well.
        """
        with self._held:
            if remove:
                shutil.rmtree(self.folder, ignore_errors=True)
            _lock_of(self.folder).unlink(missing_ok=True)


def claim_place(out: Path, key: str | None) -> Claim:
    """A folder to make a capture in, and remove those of killed processes that made another one.

    Args:
        out: the capture's place.
        key: what decides its content; None makes each capture a new one.

    Raises:
        OSError: the place cannot be written.
    """
    parent, prefix = out.absolute().parent, _prefix(out.absolute())
    parent.mkdir(parents=True, exist_ok=True)
    wanted = None if key is None else parent / f"{prefix}{key}"
    _remove_stale(parent, prefix, keep=wanted)
    claim = wanted and _claim_again(wanted)
    if not claim:
        claim = _claim_new(parent / f"{prefix}{secrets.token_hex(_TOKEN_BYTES)}")
    os.chmod(claim.folder, 0o755)
    return claim


def _prefix(out: Path) -> str:
    """What the names of all unfinished folders of one capture begin with."""
    usual, spare = f".{out.name}.partial-", "0" * (2 * _TOKEN_BYTES + len(f".old{_LOCK}"))
    if len(os.fsencode(usual + spare)) <= name_max(out.parent):
        return usual
    # cut to fit: the whole name's hash tells it from others that begin alike
    digest = hashlib.sha256(os.fsencode(out.name)).hexdigest()[: 2 * _TOKEN_BYTES]
    return hidden_beside(out, f"-{digest}.partial-{spare}").name.removesuffix(spare)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _claim_again(folder: Path) -> Claim | None:
    """The folder that everybody with this key uses; None if somebody works in it, or it is not ours."""
    with ExitStack() as stack:
        try:
            if not stack.enter_context(locked(_lock_of(folder), wait_s=0, optional=True)):
                _lock_of(folder).unlink(missing_ok=True)
                return None
            folder.mkdir(exist_ok=True)
        except OSError:
            return None
        if not _is_ours(folder):
            _lock_of(folder).unlink(missing_ok=True)
            return None
        return Claim(folder, stack.pop_all())


def _claim_new(folder: Path) -> Claim:
    """A folder that nobody knows of; the lock comes first, so that nobody takes it for a killed process's."""
    with ExitStack() as stack:
        stack.enter_context(locked(_lock_of(folder), optional=True))
        folder.mkdir()
        return Claim(folder, stack.pop_all())


def _is_ours(folder: Path) -> bool:
    """Whether it is no link and nobody else's."""
    there = os.stat(folder, follow_symlinks=False)
    return stat.S_ISDIR(there.st_mode) and there.st_uid == os.geteuid()


def _remove_stale(parent: Path, prefix: str, *, keep: Path | None) -> None:
    """Remove unfinished folders that nobody works in, but for one."""
    names = {name.removesuffix(_LOCK) for name in os.listdir(parent) if name.startswith(prefix)}
    for folder in (parent / name for name in names):
        if folder == keep:
            continue
        with suppress(OSError), locked(_lock_of(folder), wait_s=0):
            if os.path.lexists(folder):
                if not _is_ours(folder):
                    continue
                shutil.rmtree(folder, ignore_errors=True)
            _lock_of(folder).unlink(missing_ok=True)


class Ledger:
    """Names and hashes of the files stored whole, kept beside them; one thread adds at a time.

    Args:
        path: of the ledger; whole lines that it holds are believed.
    """

    def __init__(self, path: Path):
        lines = path.read_text().splitlines() if path.is_file() else []
        self._hashes = dict(line.split(" ", 1)[::-1] for line in lines if line.count(" ") == 1)
        self._file = path.open("ab", buffering=0)  # nothing is left to be written when it is closed

    def add(self, name: str, sha256: str) -> None:
        """Note a file that is in its place.

        Raises:
            OSError: there is no room.
        """
        line = f"{sha256} {name}\n".encode()
        while line:
            line = line[self._file.write(line) :]

    def knows(self, name: str, sha256: str) -> bool:
        """Whether a former process stored just this."""
        return self._hashes.get(name) == sha256

    def close(self) -> None:
        """Close the file."""
        self._file.close()
