"""Decides by a quality gate which version may become the champion.

A version is judged by its own numbers and against the champion it would replace. The verdict and its checks are kept
with the version, whichever way it went, and the keeper shows them in MLflow as tags. ``cluster.control.champions`` then
moves the champion, unless it is no longer the one that the verdict was reached with. The champion that steps down stays
reachable as ``previous``, which is what a rollback returns to.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cluster.control.champions import Champions, require_epoch, require_version
from cluster.control.promotion.checks import GateCheck, GateDecision, GateThresholds, judge
from cluster.ids import IdentityName, ModelRef, TenantId
from cluster.state.champions import Champion, ChampionChange
from cluster.state.versions import VersionDetails, VersionTable
from m2dao.errors import Conflict, PromotionRefused, ServiceUnavailable

GATE_TAG = "gate"  # passed, refused or forced
REASONS_TAG = "gate_reasons"


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What a promotion or a rollback did."""

    change: ChampionChange
    decision: GateDecision
    forced: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "champion": str(self.change.champion),
            "previous": self.change.previous and str(self.change.previous),
            "gate": {"passed": self.decision.passed, "forced": self.forced, "reasons": list(self.decision.reasons)},
        }


def verdict_tags(verdict: Mapping[str, Any]) -> dict[str, str]:
    """A verdict as the tags of a version that MLflow shows; see ``Promotions.promote``."""
    return {GATE_TAG: verdict["verdict"], REASONS_TAG: "; ".join(verdict["reasons"])}


class Promotions:
    """Promotion and rollback.

    Args:
        versions: how versions were made, and where verdicts are kept.
        champions: moves the champion.
    """

    def __init__(self, versions: VersionTable, champions: Champions):
        self._versions, self._champions = versions, champions

    def promote(
        self,
        ref: ModelRef,
        *,
        thresholds: GateThresholds | None = None,
        expected: int | None = None,
        epoch: int | None = None,
        force: bool = False,
        request: str = "",
    ) -> Promotion:
        """Make ``ref`` the champion of its identity if it passes the gate.

        Args:
            thresholds: of the gate.
            expected: the version the caller believes to be the champion now; None for whichever it is.
            epoch: the epoch of the champion that the caller has seen; None for any.
            force: move the champion even if the gate refuses; the checks are kept all the same. What cannot be
                rendered is not promoted by force either. It needs no metrics.
            request: a name for this wish. Asked for again under the same name, it moves nothing again.

        Raises:
            PromotionRefused: the gate says no, or it cannot be rendered; the message holds every reason.
            PromotionConflict: the champion is another version than expected, or changed meanwhile.
            UnknownIdentity: there is no such complete version.
            ServiceUnavailable: what was measured of it has not been taken over from MLflow yet.
        """
        self._versions.facts(ref)
        champion = self._champions.current(ref.tenant, ref.identity)
        if expected is not None:
            require_version(ref, expected, champion)
        decision, forced = self._decide(ref, champion, epoch, thresholds or GateThresholds(), force)
        change = self._champions.move(ref, decided_with=champion, request=request)
        return Promotion(change=change, decision=decision, forced=forced)

    def roll_back(
        self, tenant: TenantId, identity: IdentityName, *, epoch: int | None = None, request: str = ""
    ) -> Promotion:
        """Make the champion before the present one the champion again; the present one becomes ``previous``.

        Args:
            epoch, request: as for ``promote``.

        Raises:
            Conflict: there is no previous champion.
            PromotionConflict: the champion changed meanwhile.
        """
        change = self._champions.roll_back(tenant, identity, epoch=epoch, request=request)
        reason = "rolled back" if change.previous is None else f"rolled back from {change.previous}"
        return Promotion(
            change=change, decision=GateDecision((GateCheck(name="rollback", passed=True, detail=reason),))
        )

    def challenge(self, ref: ModelRef, *, share: int, epoch: int | None = None, force: bool = False) -> Promotion:
        """Make ``ref`` the challenger of its identity if it passes the gate, with a share of its renders.

        Args:
            share: percent of the renders that name no version; the same key goes to the same version.
            epoch, force: as for ``promote``.

        Raises:
            Conflict: it is the champion.
            PromotionRefused, PromotionConflict, UnknownIdentity, ServiceUnavailable: as for ``promote``.
        """
        self._versions.facts(ref)
        champion = self._champions.current(ref.tenant, ref.identity)
        if champion.version == ref.version:
            raise Conflict(f"challenger of {ref.registry_name}", "another version than the champion", str(ref))
        decision, forced = self._decide(ref, champion, epoch, GateThresholds(), force)
        change = self._champions.challenge(ref, share=share, decided_with=champion)
        return Promotion(change=change, decision=decision, forced=forced)

    def _decide(
        self, ref: ModelRef, champion: Champion, epoch: int | None, thresholds: GateThresholds, force: bool
    ) -> tuple[GateDecision, bool]:
        """Judge and probe a version, and keep the verdict; returns what decided, and whether by force."""
        if epoch is not None:
            require_epoch(ref.tenant, ref.identity, epoch, champion)
        decision = self._judged(ref, champion, thresholds, needed=not force)
        forced = force and not decision.passed
        if not decision.passed and not force:
            self._note(ref, "refused", decision)
            self._champions.note_refusal()
            raise PromotionRefused(
                str(ref),
                "a version that passes the gate",
                "; ".join(decision.reasons),
                "fit it longer or on a better recording, or promote it by force (--force)",
            )
        try:
            backend = self._champions.prove(ref)
        except PromotionRefused as error:
            failed = GateCheck(name="probe", passed=False, detail=error.got)
            self._note(ref, "refused", GateDecision((*decision.checks, failed)))
            self._champions.note_refusal()
            raise
        probed = GateCheck(
            name="probe", passed=True, detail=f"it was loaded and rendered by the backend {backend or 'of a replica'}"
        )
        self._note(ref, "forced" if forced else "passed", GateDecision((*decision.checks, probed)))
        return decision, forced

    def judge(self, ref: ModelRef) -> GateDecision:
        """Judge a version and keep the verdict; nothing is probed or moved.

        Raises:
            UnknownIdentity, ServiceUnavailable: as for ``promote``.
        """
        decision = self._judged(ref, self._champions.current(ref.tenant, ref.identity), GateThresholds(), needed=True)
        self._note(ref, "passed" if decision.passed else "refused", decision)
        return decision

    def _judged(self, ref: ModelRef, champion: Champion, thresholds: GateThresholds, *, needed: bool) -> GateDecision:
        rival = None
        if champion.version is not None:
            rival = self._details(ModelRef(ref.tenant, ref.identity, champion.version), needed=False)
        num_bytes = self._versions.facts(ref).num_bytes
        return judge(self._details(ref, needed=needed), rival, thresholds, num_bytes=num_bytes)

    def _details(self, ref: ModelRef, *, needed: bool) -> VersionDetails:
        """What is known of a version; where nothing is and that is not needed, that nothing was measured."""
        (details,) = self._versions.details([ref])
        if details is None and not needed:
            return VersionDetails(ref=ref)
        if details is None:
            expected = "what was measured of it to be taken over from MLflow"
            raise ServiceUnavailable(str(ref), expected, "not yet", "is a keeper running?")
        return details

    def _note(self, ref: ModelRef, verdict: str, decision: GateDecision) -> None:
        """Keep a verdict: ``passed``, ``refused`` or ``forced``, with what decided and every check."""
        checks = [asdict(check) for check in decision.checks]
        kept = {"verdict": verdict, "reasons": list(decision.reasons), "checks": checks}
        self._versions.note_verdict(ref, {**kept, "judged_s": time.time()})
