"""Takes out of service what fails: a challenger is withdrawn, a new champion rolled back.

It judges by what was counted since the champion moved last, and moves only what it has judged: a decision that names
another epoch than the present one is refused. So nothing that people decide meanwhile is undone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict

from cluster.control.champions import Champions
from cluster.control.promotion.checks import GateCheck
from cluster.groups.rollouts import RolloutSettings
from cluster.ids import IdentityName, ModelRef, TenantId
from cluster.state.champions import Champion
from cluster.state.resources.outcomes import Outcome
from cluster.state.store import StateStore
from m2dao.errors import Conflict, PromotionRefused

logger = logging.getLogger(__name__)


class Rollouts:
    """Judges the versions that serve by how their renders end.

    Args:
        state: counts, and decides which version serves.
        champions: rolls back.
        settings: what may fail.
    """

    def __init__(self, state: StateStore, champions: Champions, settings: RolloutSettings):
        self._state, self._champions, self._settings = state, champions, settings

    def look(self, check: Callable[[], None] = lambda: None) -> int:
        """Judge every identity of which renders failed lately; returns how many versions left service.

        Args:
            check: called before each; raises when somebody else has become the judge.
        """
        count = 0
        for (tenant, identity), number in self._state.outcomes.failing().items():
            check()
            count += self._judge(tenant, identity)
            self._state.outcomes.judged(tenant, identity, number)
        return count

    def _judge(self, tenant: TenantId, identity: IdentityName) -> bool:
        champion = self._champions.current(tenant, identity)
        outcomes = self._state.outcomes.get(tenant, identity)
        if outcomes.epoch != champion.epoch:
            return False  # it has moved in between
        try:
            if champion.challenger is not None and self._fails(outcomes.by(champion.challenger)):
                self._champions.withdraw(tenant, identity, epoch=champion.epoch)
                self._note(ModelRef(tenant, identity, champion.challenger), outcomes.by(champion.challenger))
                return True
            if self._is_new(tenant, identity, champion) and self._fails(outcomes.by(champion.version)):
                assert champion.version is not None, "a new champion is one"
                self._champions.roll_back(tenant, identity, epoch=champion.epoch)
                self._note(ModelRef(tenant, identity, champion.version), outcomes.by(champion.version))
                return True
        except (Conflict, PromotionRefused) as error:  # somebody has moved it, or there is nothing better
            logger.warning(
                "a version fails and stays", extra={"identity": f"{tenant}.{identity}", "reason": str(error)}
            )
        return False

    def _fails(self, outcome: Outcome) -> bool:
        limits = self._settings
        return outcome.num >= limits.min_renders and outcome.num_failed > limits.max_failed_share * outcome.num

    def _is_new(self, tenant: TenantId, identity: IdentityName, champion: Champion) -> bool:
        """Whether a promotion made it the champion. What a rollback brought back is not taken away by itself."""
        if champion.version is None or champion.previous is None:
            return False
        moves = (move.what for move in self._state.champions.history(tenant, identity) if move.what != "challenge")
        return next(moves, "") == "promote"

    def _note(self, ref: ModelRef, outcome: Outcome) -> None:
        """Keep with the version why it left service."""
        share, limit = outcome.num_failed / outcome.num, self._settings.max_failed_share
        detail = f"{outcome.num_failed} of its {outcome.num} renders failed (allowed: {limit:.0%})"
        failed = GateCheck(name="renders", passed=False, detail=detail, value=share, limit=limit)
        (before,) = self._state.versions.verdicts([ref])
        checks = [*(before or {}).get("checks", ()), asdict(failed)]
        kept = {"verdict": "refused", "reasons": [detail], "checks": checks, "judged_s": time.time()}
        self._state.versions.note_verdict(ref, kept)
        logger.warning("a version left service by itself", extra={"ref": str(ref), "reason": detail})
