"""What a worker shows of a running job beside its progress: last figures, and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cluster.state import keys, scripts
from cluster.state.link import RedisLink
from cluster.state.records import Claim
from m2dao.errors import LeaseLost


class Figures:
    """The figures of running jobs, as ``JobRecord.figures`` shows them."""

    def __init__(self, link: RedisLink):
        self._link = link

    def note(self, claim: Claim, figures: Mapping[str, Any]) -> None:
        """Keep the figures of a claimed job in place of those before.

        Raises:
            LeaseLost: the job is somebody else's now, or has ended.
        """
        job = claim.job
        words = [str(job.id), str(job.tenant), claim.fence, json.dumps(figures, sort_keys=True)]
        if self._link.run(scripts.NOTE_FIGURES, [keys.job(job.tenant, job.id)], words) != "ok":
            raise LeaseLost(claim.subject, f"to be claimed with token {claim.fence}", "another claim or state")
