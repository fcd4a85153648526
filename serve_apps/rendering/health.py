"""Whether a replica can still render, judged by how its renders end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from m2dao.errors import (
    CheckpointCorrupt,
    CheckpointUnsupported,
    InputError,
    NotFound,
    ObjectCorrupt,
    RenderBackendUnavailable,
    ServiceError,
    ServiceUnavailable,
)

log = logging.getLogger(__name__)
MAX_FAILURES = 3  # one after the other, before a replica counts as broken
_OF_THE_JOB = (InputError, NotFound, ObjectCorrupt, CheckpointCorrupt, CheckpointUnsupported)


class Health:
    """Counts failures that are neither a job's fault nor an outage. Safe between threads.

    A broken GPU fails fast, so it looks idle and is given more and more work. It must therefore be noticed soon: by
    its first failure, or by the frame that every check renders.

    Args:
        probe: renders something small; raises when this replica cannot render.
    """

    def __init__(self, probe: Callable[[], object]):
        self._probe = probe
        self._lock = threading.Lock()
        self._num_failures = 0
        self._broken = ""

    def succeeded(self) -> None:
        """A render was done."""
        with self._lock:
            self._num_failures = 0

    def failed(self, error: BaseException) -> None:
        """A render ended with ``error``."""
        if isinstance(error, (*_OF_THE_JOB, ServiceUnavailable)):
            return
        broken = self._probed() or (str(error) if isinstance(error, RenderBackendUnavailable) else "")
        with self._lock:
            self._num_failures += 1
            if not broken and self._num_failures >= MAX_FAILURES:
                broken = f"{self._num_failures} failures in a row, the last one {error!r}"
            self._broken = self._broken or broken

    def check(self) -> None:
        """Render a frame, and return while this replica can render.

        Raises:
            ServiceError: it cannot. Serve replaces it when that is said three times in a row: a neighbour on the same
                GPU may take all of its memory for a moment.
        """
        found = self._probed()
        with self._lock:
            if broken := self._broken or found:
                raise ServiceError("renderer replica", "to render", broken, "it is replaced")

    def _probed(self) -> str:
        """What is wrong with a small frame rendered now; empty for nothing."""
        try:
            self._probe()
        except Exception as found:
            log.exception("this replica fails its probe")
            return repr(found)
        return ""
