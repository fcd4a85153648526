"""What a process sees by itself, told to Ray, whose agent on each node shows it to Prometheus.

A process that is no part of a Ray cluster, such as a test's, can be told all the same; nobody sees it then.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from cluster.telemetry.metrics import Metric


def count(metric: Metric, value: float = 1.0, **labels: str) -> None:
    """Add to a counter; nothing happens for 0, which Ray refuses."""
    if value > 0:
        _made(metric).inc(value, tags=_all(metric, labels))


def observe(metric: Metric, value: float, **labels: str) -> None:
    """Put a value into a histogram."""
    _made(metric).observe(value, tags=_all(metric, labels))


class Growth:
    """Turns a number that only grows into additions to a counter; not for several threads.

    Args:
        metric: the counter.
        labels: all of its labels.
    """

    def __init__(self, metric: Metric, **labels: str):
        self._metric, self._labels, self._last = metric, labels, 0.0

    def now(self, value: float) -> None:
        """Say what the number is now."""
        count(self._metric, value - self._last, **self._labels)
        self._last = value


def _all(metric: Metric, labels: Mapping[str, str]) -> dict[str, str]:
    if set(labels) != set(metric.labels):
        raise TypeError(f"{metric.name} is told apart by {metric.labels}, not by {tuple(labels)}")
    return dict(labels)


@cache
def _made(metric: Metric) -> Any:
    from ray.util import metrics  # seconds, which a process that tells nothing need not spend

    if metric.kind == "histogram":
        return metrics.Histogram(metric.name, metric.help, boundaries=list(metric.buckets), tag_keys=metric.labels)
    # Ray itself puts _total at the end.
    return metrics.Counter(metric.name.removesuffix("_total"), metric.help, tag_keys=metric.labels)
