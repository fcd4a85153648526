"""A fit's step checkpoints, copied to the object store now and then."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from pathlib import Path

from cluster.archives import get_archive, put_archive
from cluster.state.records import Claim
from cluster.storage import ObjectStore
from m2dao.errors import ObjectCorrupt, ServiceUnavailable
from train_jobs.background import Background

logger = logging.getLogger(__name__)

STEPS_EVERY_S = 20.0  # what a killed worker loses at most, beyond the step it was at
_KEPT = 2  # copies


class StepCheckpoints:
    """Copies of a fit's step checkpoints in the object store: one object a claim, the newest two are kept.

    The name of a copy holds the age of its job and the fence of its claim. So a worker that was given up but still
    runs cannot replace what its successor has stored, nor be taken for newer.

    Args:
        store: the object store.
        prefix: where the copies of the fit are.
        claim: of the fit.
        folder: the work folder of the fit.
        every_s: seconds between copies; 0 copies at every step at which the folder has changed.
        background: stores the copies; the step loop only copies the folder aside.
    """

    def __init__(
        self,
        store: ObjectStore,
        prefix: str,
        claim: Claim,
        folder: Path,
        background: Background,
        *,
        every_s: float = STEPS_EVERY_S,
    ):
        self._store, self._prefix, self._folder, self._background = store, prefix, folder, background
        self._key = f"{prefix}{round(claim.job.created_s * 1000):015}-{claim.fence:06}.tar"
        self._every_s = every_s
        self._saved_at = time.monotonic()
        self._saved = self._state()
        self._storing = threading.Lock()

    def restore(self) -> bool:
        """Bring back what was copied last; returns whether there was anything."""
        found = False
        for key in sorted(self._keys(), reverse=True):
            try:
                found = get_archive(self._store, key, self._folder)
                break
            except ObjectCorrupt as error:
                logger.warning("a step checkpoint is of no use: %s", error)
        self._saved = self._state()
        return found

    def save_if_due(self) -> bool:
        """Begin to copy the folder when it has changed and a copy is due; returns whether it was begun.

        A store that does not answer costs the copy, not the fit; so does a copy for which there is no room.
        """
        if time.monotonic() - self._saved_at < self._every_s:
            return False
        state = self._state()
        if not state or state == self._saved or not self._storing.acquire(blocking=False):
            return False
        aside = self._folder.with_name(f".{self._folder.name}-aside")
        begun = False
        try:
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(self._folder, aside)
            begun = self._background.put(lambda: self._put(aside))
        except OSError as error:
            logger.warning("step checkpoint %s: %s", self._key, error)
        finally:
            if not begun:
                shutil.rmtree(aside, ignore_errors=True)
                self._storing.release()
        if begun:
            self._saved_at, self._saved = time.monotonic(), state
        return begun

    def _put(self, folder: Path) -> None:
        try:
            put_archive(self._store, self._key, folder)
            for key in sorted(key for key in self._keys() if key <= self._key)[:-_KEPT]:
                self._store.delete(key)
        except (ServiceUnavailable, OSError) as error:
            logger.warning("step checkpoint %s: %s", self._key, error)
            self._saved = []  # the next step tries again
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self._storing.release()

    def forget(self) -> None:
        """Delete the copies, of this claim and of those before it."""
        with self._storing:
            for key in [key for key in self._keys() if key <= self._key]:
                self._store.delete(key)

    def _keys(self) -> list[str]:
        return [info.key for info in self._store.list(self._prefix)]

    def _state(self) -> list[tuple[str, int, int]]:
        if not self._folder.is_dir():
            return []
        files = sorted(path for path in self._folder.rglob("*") if path.is_file())
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
