"""Replaces folders as a whole: nobody ever sees an unfinished one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from m2dao.errors import InputError
from m2dao.files import whole_folder
from m2dao.formats import Format


def check_replaceable(folder: Path, kind: Format) -> None:
    """Refuse a folder that holds anything but what may take its place. See ``replaced_folder``."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / kind.manifest).is_file():
        raise InputError(
            str(folder), f"an empty folder or one with {kind.manifest}", "other files", "choose another --out"
        )


@contextmanager
def replaced_folder(folder: Path, kind: Format) -> Iterator[Path]:
    """A folder to write into, which takes the place of ``folder`` when all went well.

    Args:
        folder: where; must be absent, empty or of the same kind.
        kind: what is written.

    Raises:
        InputError: the folder holds something else.
    """
    check_replaceable(folder, kind)
    with whole_folder(folder) as aside:
        yield aside
