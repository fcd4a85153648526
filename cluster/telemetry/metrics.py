"""Every metric that the platform shows, in one table, with labels that stay few.

Nothing here names a tenant, an identity or a job: those are in the logs. Metrics come from two places.

- What all processes share (queues, ends of jobs, promotions) is read from the state store by the keeper that works, and
  shown at ``M2DAO_METRICS_PORT``: each once, whoever dies meanwhile. See ``cluster/keeper/metrics_chore.py``.
- What a process sees by itself (times, caches, answers) goes through Ray, whose agent on each node shows it. Ray puts
  ``ray_`` before these names. See ``cluster/telemetry/ray_meter.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Args:
        name: as Prometheus wants it: the unit last, and ``_total`` on counters.
        kind: what can be done with it.
        help: what it tells, in a sentence.
        labels: what it is told apart by.
        by_keeper: whether the keeper shows it; Ray does otherwise.
        buckets: upper bounds of a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    by_keeper: bool = False
    buckets: tuple[float, ...] = ()

    @property
    def shown_as(self) -> str:
        """The name that Prometheus sees."""
        return self.name if self.by_keeper else f"ray_{self.name}"


def _kept(name: str, kind: Literal["counter", "gauge"], help: str, *labels: str) -> Metric:
    return Metric(name=f"m2dao_{name}", kind=kind, help=help, labels=labels, by_keeper=True)


# -- shown by the keeper --------------------------------------------------------------------------------------
KEEPING = _kept("keeper_working", "gauge", "1 while this keeper is the one that works, else 0.")
MAINTENANCE = _kept("maintenance", "gauge", "1 while nothing new is accepted, else 0.")
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
FIT_SECONDS = _kept("fit_seconds_total", "counter", "Time that finished fits spent in each stage.", "stage")
MOVES = _kept("champion_moves_total", "counter", "Wishes to move a champion, by what came of them.", "what", "outcome")
UNTOLD = _kept("ledger_untold", "gauge", "Identities whose champion the model registry does not show yet.")
PROBES = _kept("probes_waiting", "gauge", "Versions that wait to be probed before they are promoted.")
CHORES_FAILED = _kept("chores_failed_total", "counter", "Times a chore of the keeper failed.", "chore")

# -- shown by Ray ---------------------------------------------------------------------------------------------
RENDER_WAIT = Metric(
    name="m2dao_render_wait_seconds",
    kind="histogram",
    help="From an accepted render to the begin of its work.",
    buckets=_SECONDS,
)
RENDER_STAGE = Metric(
    name="m2dao_render_stage_seconds",
    kind="histogram",
    help="Time of a finished render in one of its stages: loading, rendering, storing.",
    labels=("stage",),
    buckets=_SECONDS,
)
VIDEO = Metric(name="m2dao_video_seconds_total", kind="counter", help="Seconds of finished video.")
IDENTITY_USES = Metric(
    name="m2dao_identity_uses_total",
    kind="counter",
    help="Times an identity was needed, by where it was: memory, or the node's disk or the object store (load).",
    labels=("source",),
)
EVICTIONS = Metric(
    name="m2dao_identity_evictions_total", kind="counter", help="Identities that had to leave a replica's memory."
)
PROBLEMS = Metric(
    name="m2dao_api_problems_total",
    kind="counter",
    help="Answers of the API that are problem documents.",
    labels=("status", "code"),
)

METRICS: Sequence[Metric] = tuple(value for value in dict(globals()).values() if isinstance(value, Metric))
