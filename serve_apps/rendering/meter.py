"""What a replica tells to Prometheus: waits, times of its renders, and how its cache does."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.state.records import JobRecord
from cluster.telemetry import metrics
from cluster.telemetry.ray_meter import Growth, count, observe
from serve_apps.identities.talker_cache import TalkerCache


def tell_of_render(job: JobRecord, *, seconds: float, stages: Mapping[str, float]) -> None:
    """Tell of a finished render; see ``worker.OnDone``."""
    observe(metrics.RENDER_WAIT, max(0.0, job.updated_s - job.created_s))
    for stage, stage_s in stages.items():
        observe(metrics.RENDER_STAGE, stage_s, stage=stage)
    count(metrics.VIDEO, seconds)


class CacheMeter:
    """Tells how often identities were there, were loaded, and had to leave; not for several threads."""

    def __init__(self, talkers: TalkerCache):
        self._talkers = talkers
        self._hits = Growth(metrics.IDENTITY_USES, source="memory")
        self._loads = Growth(metrics.IDENTITY_USES, source="load")
        self._evictions = Growth(metrics.EVICTIONS)

    def tell(self) -> None:
        """Tell what has happened since the last time."""
        figures = self._talkers.figures()
        self._hits.now(figures.hits)
        self._loads.now(figures.cold_loads)
        self._evictions.now(figures.evictions)
