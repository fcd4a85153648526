"""Decides by a quality gate which version may become the champion.

A version is judged by its own numbers and against the champion it would replace. The verdict and its reasons are kept
as tags on the version, whichever way it went. ``cluster.control.champions`` then moves the champion, unless it is no
longer the one that the verdict was reached with. The champion that steps down stays reachable as ``previous``, which is
what a rollback returns to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from cluster.control.champions import Champions, require_version
from cluster.ids import IdentityName, ModelRef, TenantId
from cluster.registry import Registry
from cluster.state.champions import ChampionChange
from cluster.versions import VersionInfo
from m2dao.errors import ConfigError, PromotionRefused

CAPTURE_TAG = "capture_sha256"  # which capture the metrics of a version were measured on
GATE_TAG = "gate"  # passed, refused or forced
REASONS_TAG = "gate_reasons"


@dataclass(frozen=True, kw_only=True)
class GateThresholds:
    """What a version must reach to become the champion; the metrics are those of ``m2dao evaluate``.

    ``min_sync_share`` is a share of the sync confidence that the recording itself has over the same frames.
    ``max_*_drop`` limit how far a challenger may fall behind the present champion, and count only where both were
    measured on the same capture with the same number of frames: other numbers cannot be compared.
    """

    min_psnr_db: float = 25.0
    min_sync_confidence: float = 0.15
    min_sync_share: float = 0.5
    max_psnr_drop_db: float = 0.5
    max_sync_confidence_drop: float = 0.1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value):
                raise ConfigError(f"gate threshold {field.name}", "a finite number", repr(value))
            if field.name.startswith("max_") and value < 0:
                raise ConfigError(f"gate threshold {field.name}", "a drop of 0 or more", repr(value))


@dataclass(frozen=True)
class GateDecision:
    """Whether a version may become the champion, and every reason for and against in plain words."""

    passed: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return ("passed: " if self.passed else "refused: ") + "; ".join(self.reasons)


def judge(candidate: VersionInfo, champion: VersionInfo | None, thresholds: GateThresholds) -> GateDecision:
    """Judge a version by its own numbers and against the champion it would replace."""
    checks = [_floor(candidate, "psnr_db", thresholds.min_psnr_db, "dB"), *_sync_floors(candidate, thresholds)]
    if champion is None:
        checks.append((True, "there is no champion yet"))
    elif not _comparable(candidate, champion):
        checks.append((True, f"not compared with {champion.ref}: its metrics come from another capture"))
    else:
        checks.append(_no_drop(candidate, champion, "psnr_db", thresholds.max_psnr_drop_db, "dB"))
        checks.append(_no_drop(candidate, champion, "sync_confidence", thresholds.max_sync_confidence_drop, ""))
    failed = [reason for passed, reason in checks if not passed]
    return GateDecision(not failed, tuple(failed or [reason for _, reason in checks]))


def _floor(candidate: VersionInfo, metric: str, floor: float, unit: str) -> tuple[bool, str]:
    value = candidate.metrics.get(metric)
    if value is None or not math.isfinite(value):
        return False, f"{metric} was not measured (need at least {_number(floor, unit)})"
    relation = ">=" if value >= floor else "below"
    return value >= floor, f"{metric} {_number(value, unit)} {relation} {_number(floor, unit)}"


def _sync_floors(candidate: VersionInfo, thresholds: GateThresholds) -> list[tuple[bool, str]]:
    own = candidate.metrics.get("recording_sync_confidence")
    measured = candidate.metrics.get("sync_confidence")
    if own is None and measured is None and "num_frames" in candidate.metrics:
        # Lip sync needs a few seconds to be told from chance; nobody can tell it here, not even of the recording.
        frames = candidate.metrics["num_frames"]
        return [(True, f"lip sync was not judged: {frames:.0f} test frames are too few to measure it")]
    checks = [_floor(candidate, "sync_confidence", thresholds.min_sync_confidence, "")]
    if own is not None and measured is not None and own > 0:
        share = measured / own
        relation = "at least" if share >= thresholds.min_sync_share else "below"
        reason = f"sync_confidence is {share:.0%} of the recording's own, {relation} {thresholds.min_sync_share:.0%}"
        checks.append((share >= thresholds.min_sync_share, reason))
    return checks


def _no_drop(candidate: VersionInfo, champion: VersionInfo, metric: str, margin: float, unit: str) -> tuple[bool, str]:
    before, after = champion.metrics.get(metric), candidate.metrics.get(metric)
    if before is None or not math.isfinite(before):
        return True, f"{champion.ref} has no {metric} to compare with"
    if after is None or not math.isfinite(after):
        return False, f"{metric} was not measured, {champion.ref} has {_number(before, unit)}"
    drop = before - after
    if drop > margin:
        return False, f"{metric} is {_number(drop, unit)} below {champion.ref} (allowed: {_number(margin, unit)})"
    return True, f"{metric} {_number(after, unit)} holds up to {champion.ref} ({_number(before, unit)})"


def _number(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}".strip() if abs(value) < 10 else f"{value:.2f} {unit}".strip()


def _comparable(candidate: VersionInfo, champion: VersionInfo) -> bool:
    capture = candidate.tags.get(CAPTURE_TAG)
    return (
        capture is not None
        and capture == champion.tags.get(CAPTURE_TAG)
        and candidate.metrics.get("num_frames") == champion.metrics.get("num_frames")
    )


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


class Promotions:
    """Promotion and rollback.

    Args:
        registry: what versions there are, and where verdicts are kept.
        champions: moves the champion.
    """

    def __init__(self, registry: Registry, champions: Champions):
        self._registry, self._champions = registry, champions

    def promote(
        self,
        ref: ModelRef,
        *,
        thresholds: GateThresholds | None = None,
        expected: int | None = None,
        force: bool = False,
        request: str = "",
    ) -> Promotion:
        """Make ``ref`` the champion of its identity if it passes the gate.

        Args:
            thresholds: of the gate.
            expected: the version the caller believes to be the champion now; None for whichever it is.
            force: move the champion even if the gate refuses; the reasons are kept all the same. What cannot be
                rendered is not promoted by force either.
            request: a name for this wish. Asked for again under the same name, it moves nothing again.

        Raises:
            PromotionRefused: the gate says no, or it cannot be rendered; the message holds every reason.
            PromotionConflict: the champion is another version than expected, or changed meanwhile.
            UnknownIdentity: there is no such complete version.
        """
        champion = self._champions.current(ref.tenant, ref.identity)
        if expected is not None:
            require_version(ref, expected, champion)
        candidate = self._registry.describe(ref)
        rival = champion.version and self._registry.describe(ModelRef(ref.tenant, ref.identity, champion.version))
        decision = judge(candidate, rival or None, thresholds or GateThresholds())
        forced = force and not decision.passed
        verdict = "forced" if forced else "passed" if decision.passed else "refused"
        self._registry.set_tags(candidate.ref, {GATE_TAG: verdict, REASONS_TAG: "; ".join(decision.reasons)})
        if not decision.passed and not force:
            self._champions.note_refusal()
            raise PromotionRefused(
                str(ref),
                "a version that passes the gate",
                "; ".join(decision.reasons),
                "fit it longer or on a better recording, or promote it with --force",
            )
        try:
            self._champions.prove(candidate.ref)
        except PromotionRefused as error:
            self._registry.set_tags(candidate.ref, {GATE_TAG: "refused", REASONS_TAG: error.got})
            self._champions.note_refusal()
            raise
        change = self._champions.move(candidate.ref, decided_with=champion, request=request)
        return Promotion(change=change, decision=decision, forced=forced)

    def roll_back(self, tenant: TenantId, identity: IdentityName) -> Promotion:
        """Make the champion before the present one the champion again; the present one becomes ``previous``.

        Raises:
            UnknownIdentity: there is no previous champion.
            PromotionConflict: the champion changed meanwhile.
        """
        change = self._champions.roll_back(tenant, identity)
        reason = "rolled back" if change.previous is None else f"rolled back from {change.previous}"
        return Promotion(change=change, decision=GateDecision(True, (reason,)))
