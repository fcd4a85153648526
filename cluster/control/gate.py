"""Decides by a quality gate which version may become the champion.

A version is judged by its own numbers and against the champion it would replace. The verdict and its checks are kept
with the version, whichever way it went, and the keeper shows them in MLflow as tags. ``cluster.control.champions`` then
moves the champion, unless it is no longer the one that the verdict was reached with. The champion that steps down stays
reachable as ``previous``, which is what a rollback returns to.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cluster.control.champions import Champions, require_epoch, require_version
from cluster.ids import IdentityName, ModelRef, TenantId
from cluster.state.champions import Champion, ChampionChange
from cluster.state.versions import VersionDetails, VersionTable
from m2dao.errors import ConfigError, Conflict, PromotionRefused, ServiceUnavailable

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


@dataclass(frozen=True, kw_only=True)
class GateCheck:
    """One thing that the gate looked at.

    Args:
        name: stable, for programs, such as ``psnr_db``.
        passed: whether it speaks for the version.
        detail: the same in plain words.
        value: what was measured; None where nothing was.
        limit: what it is held against; None where nothing is.
    """

    name: str
    passed: bool
    detail: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class GateDecision:
    """Whether a version may become the champion, and everything for and against it."""

    checks: tuple[GateCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What decided, in plain words: what speaks against it, or else everything."""
        return tuple(check.detail for check in self.checks if self.passed or not check.passed)

    def __str__(self) -> str:
        return ("passed: " if self.passed else "refused: ") + "; ".join(self.reasons)


def judge(candidate: VersionDetails, champion: VersionDetails | None, thresholds: GateThresholds) -> GateDecision:
    """Judge a version by its own numbers and against the champion it would replace."""
    checks = [_floor(candidate, "psnr_db", thresholds.min_psnr_db, "dB"), *_sync_floors(candidate, thresholds)]
    if champion is None:
        checks.append(GateCheck(name="champion", passed=True, detail="there is no champion yet"))
    elif not _comparable(candidate, champion):
        why = "its metrics come from another capture" if champion.metrics else "no metrics of it are known"
        detail = f"not compared with {champion.ref}: {why}"
        checks.append(GateCheck(name="champion", passed=True, detail=detail))
    else:
        checks.append(_no_drop(candidate, champion, "psnr_db", thresholds.max_psnr_drop_db, "dB"))
        checks.append(_no_drop(candidate, champion, "sync_confidence", thresholds.max_sync_confidence_drop, ""))
    return GateDecision(tuple(checks))


def _floor(candidate: VersionDetails, metric: str, floor: float, unit: str) -> GateCheck:
    value = candidate.metrics.get(metric)
    if value is None or not math.isfinite(value):
        detail = f"{metric} was not measured (need at least {_number(floor, unit)})"
        return GateCheck(name=metric, passed=False, detail=detail, limit=floor)
    relation = ">=" if value >= floor else "below"
    detail = f"{metric} {_number(value, unit)} {relation} {_number(floor, unit)}"
    return GateCheck(name=metric, passed=value >= floor, detail=detail, value=value, limit=floor)


def _sync_floors(candidate: VersionDetails, thresholds: GateThresholds) -> list[GateCheck]:
    own = candidate.metrics.get("recording_sync_confidence")
    measured = candidate.metrics.get("sync_confidence")
    if own is None and measured is None and "num_frames" in candidate.metrics:
        # Lip sync needs a few seconds to be told from chance; nobody can tell it here, not even of the recording.
        frames = candidate.metrics["num_frames"]
        detail = f"lip sync was not judged: {frames:.0f} test frames are too few to measure it"
        return [GateCheck(name="sync_confidence", passed=True, detail=detail)]
    checks = [_floor(candidate, "sync_confidence", thresholds.min_sync_confidence, "")]
    if own is not None and measured is not None and own > 0:
        share, least = measured / own, thresholds.min_sync_share
        relation = "at least" if share >= least else "below"
        detail = f"sync_confidence is {share:.0%} of the recording's own, {relation} {least:.0%}"
        checks.append(GateCheck(name="sync_share", passed=share >= least, detail=detail, value=share, limit=least))
    return checks


def _no_drop(candidate: VersionDetails, champion: VersionDetails, metric: str, margin: float, unit: str) -> GateCheck:
    name = f"{metric}_drop"
    before, after = champion.metrics.get(metric), candidate.metrics.get(metric)
    if before is None or not math.isfinite(before):
        return GateCheck(name=name, passed=True, detail=f"{champion.ref} has no {metric} to compare with", limit=margin)
    if after is None or not math.isfinite(after):
        detail = f"{metric} was not measured, {champion.ref} has {_number(before, unit)}"
        return GateCheck(name=name, passed=False, detail=detail, limit=margin)
    drop = before - after
    if drop > margin:
        detail = f"{metric} is {_number(drop, unit)} below {champion.ref} (allowed: {_number(margin, unit)})"
    else:
        detail = f"{metric} {_number(after, unit)} holds up to {champion.ref} ({_number(before, unit)})"
    return GateCheck(name=name, passed=drop <= margin, detail=detail, value=drop, limit=margin)


def _number(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}".strip() if abs(value) < 10 else f"{value:.2f} {unit}".strip()


def _comparable(candidate: VersionDetails, champion: VersionDetails) -> bool:
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
        rival = None
        if champion.version is not None:
            rival = self._details(ModelRef(ref.tenant, ref.identity, champion.version), needed=False)
        decision = judge(self._details(ref, needed=not force), rival, thresholds)
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
            self._champions.prove(ref)
        except PromotionRefused as error:
            failed = GateCheck(name="probe", passed=False, detail=error.got)
            self._note(ref, "refused", GateDecision((*decision.checks, failed)))
            self._champions.note_refusal()
            raise
        probed = GateCheck(name="probe", passed=True, detail="it was loaded and rendered")
        self._note(ref, "forced" if forced else "passed", GateDecision((*decision.checks, probed)))
        return decision, forced

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
