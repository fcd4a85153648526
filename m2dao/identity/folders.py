"""Folders that are replaced as a whole: what is not finished is never seen."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from m2dao.errors import InputError


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
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield aside
        aside.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
