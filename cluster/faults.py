"""Whose fault a failure is, and how long to wait after one of ours."""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass

from m2dao.errors import (
    NO_ROOM,
    CheckpointCorrupt,
    RenderBackendUnavailable,
    ServiceUnavailable,
    SystemFault,
)

_EXHAUSTED = {*NO_ROOM, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_OUTAGE = 1000  # times: with the waits that grow, most of a day
_BROKEN = 20  # times: enough for another machine to be found, or for somebody to look
_DAMAGED = 5  # times: another copy may be whole; the registered one will not mend itself


def times_to_put_off(error: BaseException) -> int:
    """How often a job that met ``error`` may be put off uncounted; 0 when the failure is the job's own.

    A service that is away and a machine without its GPU say nothing about the job, so it waits and is tried again. It
    does not wait for ever: what never mends must show up as a failure.
    """
    if isinstance(error, (ServiceUnavailable, RenderBackendUnavailable, MemoryError)):
        return _OUTAGE
    if isinstance(error, OSError):
        return _OUTAGE if error.errno in _EXHAUSTED else 0
    if isinstance(error, CheckpointCorrupt):
        return _DAMAGED
    if isinstance(error, SystemFault):  # also a format that this release cannot read: the next one's replicas can
        return _BROKEN
    return 0


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Waits that double, each cut at random by up to half, so that many do not come at once.

    Args:
        base_s: the longest first wait, in seconds.
        max_s: the longest wait, in seconds.
    """

    base_s: float = 1.0
    max_s: float = 30.0

    def wait_s(self, num_before: int) -> float:
        """How long to wait now.

        Args:
            num_before: how often it was tried in vain before this time.
        """
        whole_s = min(self.max_s, self.base_s * 2.0 ** min(num_before, 30))
        return whole_s * random.uniform(0.5, 1.0)
