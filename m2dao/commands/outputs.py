"""Refuses outputs that cannot be written, before the work begins."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from m2dao.errors import InputError
from m2dao.files import name_max
from m2dao.formats import Format
from m2dao.identity.folders import check_replaceable

_REMEDY = "choose another place"


def check_file(path: Path, *, suffix: str) -> None:
    """Refuse a file that cannot be made or replaced.

    Args:
        path: of the file; folders on the way to it may be missing.
        suffix: what its name must end in, for example ``.mp4``.

    Raises:
        InputError: the name ends otherwise, something else has it, or its place cannot be written.
    """
    if path.suffix.lower() != suffix:
        raise InputError(str(path), f"a file name that ends in {suffix}", path.suffix or "no suffix", _REMEDY)
    _check_names(path)
    if path.is_dir():
        raise InputError(str(path), "a file", "a folder", _REMEDY)
    _check_place(path)


def check_folder(path: Path, *, new: bool = False, replaces: Format | None = None) -> None:
    """Refuse a folder that cannot be made or written into.

    Args:
        path: of the folder; folders on the way to it may be missing.
        new: whether it must not hold anything yet.
        replaces: what it may hold, and nothing else, because it will be replaced.

    Raises:
        InputError: something else has its name, it is not empty, or its place cannot be written.
    """
    _check_names(path)
    if path.exists() and not path.is_dir():
        raise InputError(str(path), "a folder", "a file", _REMEDY)
    if new and path.is_dir() and any(path.iterdir()):
        raise InputError(str(path), "an empty or new folder", "something in it", _REMEDY)
    if replaces is not None:
        check_replaceable(path, replaces)
    _check_place(path / "inside")


def _check_names(path: Path) -> None:
    """Refuse a path that no file system of ours can hold."""
    limit = name_max(path.absolute().parent)
    longest = max(len(os.fsencode(part)) for part in path.absolute().parts)
    if longest > limit:
        raise InputError(str(path), f"names of at most {limit} bytes", f"one of {longest}", "choose a shorter name")


def _check_place(path: Path) -> None:
    """Try to write where ``path`` will be, or its first folder that is missing."""
    there = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(str(path), f"leave to write into {there}", error.strerror or str(error), _REMEDY) from error
