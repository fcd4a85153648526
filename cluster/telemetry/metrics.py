"""Every metric that the platform shows, in one table, with labels that stay few.

Nothing here names a tenant, an identity or a job: those are in the logs. What all processes share (queues, ends of
jobs, promotions) is read from the state store by the keeper that works, and shown at ``M2DAO_METRICS_PORT``: each once,
whoever dies meanwhile. See ``cluster/keeper/metrics_chore.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Args:
        name: as Prometheus wants it: the unit last, and ``_total`` on counters.
        kind: what can be done with it.
        help: what it tells, in a sentence.
        labels: what it is told apart by.
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


def _kept(name: str, kind: Literal["counter", "gauge"], help: str, *labels: str) -> Metric:
    return Metric(name=f"m2dao_{name}", kind=kind, help=help, labels=labels)


KEEPING = _kept("keeper_working", "gauge", "1 while this keeper is the one that works, else 0.")
JOBS = _kept("jobs", "gauge", "Open jobs, by where they are.", "kind", "place")
BACKLOG = _kept(
    "backlog_seconds", "gauge", "Seconds of speech in open renders, or number of open fits.", "kind", "place"
)
LONGEST_WAIT = _kept("longest_wait_seconds", "gauge", "Age of the oldest job that nobody has begun.", "kind")
FITS = _kept("fits_running", "gauge", "Running fits, by what they are at.", "stage")
ENDED = _kept(
    "jobs_ended_total", "counter", "Jobs that ended; the code says why one failed.", "kind", "outcome", "code"
)
PUT_OFF = _kept("jobs_put_off_total", "counter", "Times a job had to wait because something was away.", "kind", "code")
RETRIED = _kept("jobs_retried_total", "counter", "Times a job was tried again, by what had gone wrong.", "kind", "code")
LEASES_LOST = _kept("leases_lost_total", "counter", "Jobs whose worker fell silent.", "kind")
MOVES = _kept("champion_moves_total", "counter", "Wishes to move a champion, by what came of them.", "what", "outcome")
UNTOLD = _kept("ledger_untold", "gauge", "Identities whose champion the model registry does not show yet.")
PROBES = _kept("probes_waiting", "gauge", "Versions that wait to be probed before they are promoted.")
CHORES_FAILED = _kept("chores_failed_total", "counter", "Times a chore of the keeper failed.", "chore")

METRICS: Sequence[Metric] = tuple(value for value in dict(globals()).values() if isinstance(value, Metric))
