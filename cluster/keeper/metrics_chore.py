"""Shows what all processes share to Prometheus, at ``M2DAO_METRICS_PORT``."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family

from cluster.platform import Platform
from cluster.settings import MetricsSettings
from cluster.state import tallies
from cluster.state.keys import KINDS
from cluster.state.lease import Lease
from cluster.state.store import StateStore
from cluster.telemetry import metrics
from cluster.telemetry.metrics import Metric
from m2dao.errors import ConfigError

EVERY_S = 5.0
FRESH_S = 20.0  # figures that are older are not shown: another keeper may work by now
_COUNTED = {
    tallies.ENDED: metrics.ENDED,
    tallies.PUT_OFF: metrics.PUT_OFF,
    tallies.RETRIED: metrics.RETRIED,
    tallies.LEASES_LOST: metrics.LEASES_LOST,
    tallies.FIT_MS: metrics.FIT_SECONDS,
    tallies.MOVES: metrics.MOVES,
}

_Figures = dict[Metric, dict[tuple[str, ...], float]]


@dataclass(eq=False)
class _Shown:
    """What the keeper shows, in the form that Prometheus' client asks for."""

    read_at: float = float("-inf")
    figures: _Figures = field(default_factory=dict)
    failures: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)

    def collect(self) -> Iterator[Family]:
        working = time.monotonic() - self.read_at <= FRESH_S
        yield _family(metrics.KEEPING, {(): float(working)})
        if working:
            yield _family(metrics.CHORES_FAILED, dict(self.failures))
            for metric, values in self.figures.items():
                yield _family(metric, values)


class MetricsChore:
    """Reads the figures again and again while this keeper is the one that works.

    Args:
        platform: the services.
        at: where the figures are shown; without a port nothing is read.
    """

    name = "metrics"

    def __init__(self, platform: Platform, at: MetricsSettings):
        self._platform, self._at = platform, at
        self._shown = _Shown()
        self._server: tuple[WSGIServer, threading.Thread] | None = None

    def count_failure(self, chore: str) -> None:
        """Note that a chore of this keeper failed."""
        self._shown.failures[(chore,)] += 1

    def rest(self) -> None:
        """Show nothing any more: the port is the next keeper's."""
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()
            self._server = None

    def do(self, lease: Lease) -> float:
        if self._at.port:
            self._listen(self._at.port)
            self._shown.figures = _read(self._platform.state)
            self._shown.read_at = time.monotonic()
        return EVERY_S

    def _listen(self, port: int) -> None:
        if self._server is not None:
            return
        registry = CollectorRegistry()
        registry.register(self._shown)
        try:
            self._server = start_http_server(port, self._at.host, registry)
        except OSError as error:
            raise ConfigError(
                "M2DAO_METRICS_PORT", "a port that nobody uses", f"{port}: {error}", "choose another, or 0 for none"
            ) from error


def _read(state: StateStore) -> _Figures:
    figures: _Figures = collections.defaultdict(dict)
    for kind in KINDS:
        backlog = state.jobs.backlog(kind)
        places = {"queued": backlog.num_queued, "running": backlog.num_running, "put off": backlog.num_delayed}
        figures[metrics.JOBS] |= {(kind, place): count for place, count in places.items()}
        costs = {"queued": backlog.queued_cost, "running": backlog.running_cost}
        figures[metrics.BACKLOG] |= {(kind, place): cost for place, cost in costs.items()}
        figures[metrics.LONGEST_WAIT][(kind,)] = state.tallies.longest_wait_s(kind)
    running = (job.stage.partition(":")[0] or "starting" for job in state.jobs.open("fit") if job.status == "running")
    figures[metrics.FITS] = {(stage,): count for stage, count in collections.Counter(running).items()}
    figures[metrics.MAINTENANCE][()] = float(state.maintenance.notice() is not None)
    figures[metrics.UNTOLD][()] = len(state.champions.untold())
    figures[metrics.PROBES][()] = len(state.probes.waiting(for_s=0.0))
    for (what, *words), count in state.tallies.read().items():
        figures[_COUNTED[what]][tuple(words)] = count / 1000 if what == tallies.FIT_MS else count
    return figures


def _family(metric: Metric, values: Mapping[tuple[str, ...], float]) -> Family:
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
