"""What the use cases need of a compute cluster: that it runs one job for a batch of fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class BatchJobState:
    """How a submitted job is.

    Args:
        status: in the cluster's own words, for people.
        ended: whether it runs no more.
        message: why it ended, or its last lines; empty when nothing is known.
    """

    status: str
    ended: bool
    message: str = ""


class BatchJobs(Protocol):
    """Jobs on a compute cluster. ``cluster.compute.jobs.RayJobs`` is one.

    Every method raises ``ClusterUnavailable`` when the cluster does not answer.
    """

    def submit(self, batch: str, words: Sequence[str], env: Mapping[str, str]) -> str:
        """Submit a job for a batch; returns its submission id."""

    def last(self, batch: str) -> str | None:
        """The newest submission of a batch."""

    def state(self, submission_id: str) -> BatchJobState:
        """How a submission is."""
