"""Takes versions out of service whose renders fail."""

from __future__ import annotations

from cluster.control.champions import Champions
from cluster.control.rollouts import Rollouts
from cluster.platform import Platform
from cluster.state.lease import Lease

LOOK_S = 1.0


class RolloutsChore:
    """Judges versions by how their renders end."""

    name = "rollouts"

    def __init__(self, platform: Platform):
        self._rollouts = Rollouts(platform.state, Champions(platform.state), platform.settings.rollout)

    def do(self, lease: Lease) -> float:
        self._rollouts.look(lease.check)
        return LOOK_S
