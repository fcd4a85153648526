"""Replaces folders as a whole: nobody ever sees an unfinished one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from m2dao.errors import InputError
from m2dao.files import whole_folder


@contextmanager
def replaced_folder(folder: Path, *, marker: str, kind: str) -> Iterator[Path]:
    """A folder to write into, which takes the place of ``folder`` when all went well.

    Args:
        folder: where; must be absent, empty or of the same kind.
        marker: file that a folder of this kind holds.
        kind: what it is, for people.

    Raises:
        InputError: the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / marker).is_file():
        raise InputError(str(folder), f"an empty folder or {kind}", "other files", "choose another --out")
    with whole_folder(folder) as aside:
        yield aside
