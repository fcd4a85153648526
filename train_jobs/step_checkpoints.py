"""A fit's step checkpoints, copied to the object store now and then."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from cluster.archives import get_archive, put_archive
from cluster.storage import ObjectStore
from m2dao.errors import ServiceUnavailable

logger = logging.getLogger(__name__)

STEPS_EVERY_S = 20.0  # what a killed worker loses at most, beyond the step it was at


class StepCheckpoints:
    """Copies of a fit's step checkpoints in the object store, one object that is replaced.

    Args:
        store: the object store.
        key: where the copy is.
        folder: the work folder of the fit.
        every_s: seconds between copies; 0 copies at every step at which the folder has changed.
    """

    def __init__(self, store: ObjectStore, key: str, folder: Path, *, every_s: float = STEPS_EVERY_S):
        self._store, self._key, self._folder = store, key, folder
        self._every_s = every_s
        self._saved_at = time.monotonic()
        self._saved = self._state()

    def restore(self) -> bool:
        """Bring back what was copied last; returns whether there was anything."""
        found = get_archive(self._store, self._key, self._folder)
        self._saved = self._state()
        return found

    def save_if_due(self) -> bool:
        """Copy the folder when it has changed and the last copy is old enough; returns whether it was copied.

        A store that does not answer costs the copy, not the fit.
        """
        if time.monotonic() - self._saved_at < self._every_s:
            return False
        state = self._state()
        if not state or state == self._saved:
            return False
        self._saved_at = time.monotonic()
        try:
            put_archive(self._store, self._key, self._folder)
        except ServiceUnavailable as error:
            logger.warning("step checkpoint %s: %s", self._key, error)
            return False
        self._saved = state
        return True

    def forget(self) -> None:
        """Delete the copy."""
        self._store.delete(self._key)

    def _state(self) -> list[tuple[str, int, int]]:
        if not self._folder.is_dir():
            return []
        files = sorted(path for path in self._folder.rglob("*") if path.is_file())
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
