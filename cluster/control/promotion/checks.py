"""The checks of the quality gate: what is measured of a version, held against limits.

What was not measured never passes. Lip sync on the version's own test frames needs some seconds of them; whether the
voice has learned anything is seen of every version, by a sentence that it speaks in another person's voice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from cluster.state.versions import VersionDetails
from m2dao.errors import ConfigError

CAPTURE_TAG = "capture_sha256"  # which capture the metrics of a version were measured on
PROBE = "probe."  # begins the names of what was measured while it spoke the probe sentence
_PROBE_SYNC, _PROBE_OFFSET = f"{PROBE}sync_confidence", f"{PROBE}sync_offset_frames"


@dataclass(frozen=True, kw_only=True)
class GateThresholds:
    """What a version must reach to become the champion; the metrics are those of ``m2dao evaluate``.

    ``min_sync_share`` is a share of the sync confidence that the recording itself has over the same frames.
    ``max_*_drop`` limit how far a challenger may fall behind the present champion. Those of the recording count only
    where both were measured on the same capture with the same number of frames: other numbers cannot be compared. The
    probe sentence is the same for all. ``speech_held_out_r`` is the correlation of predicted and recorded lips in parts
    of the recording that the voice was not learned from.
    """

    min_psnr_db: float = 25.0
    min_sync_confidence: float = 0.15
    min_sync_share: float = 0.5
    max_psnr_drop_db: float = 0.5
    max_sync_confidence_drop: float = 0.1
    min_speech_held_out_r: float = 0.1
    min_probe_sync_confidence: float = 0.3
    max_probe_sync_offset_frames: float = 5.0
    min_probe_closure: float = 0.05
    max_probe_sync_drop: float = 0.2
    max_mb: float = 500.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value):
                raise ConfigError(f"gate threshold {field.name}", "a finite number", repr(value))
            if field.name.startswith("max_") and value < 0:
                raise ConfigError(f"gate threshold {field.name}", "0 or more", repr(value))


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


def judge(
    candidate: VersionDetails, champion: VersionDetails | None, thresholds: GateThresholds, *, num_bytes: int = 0
) -> GateDecision:
    """Judge a version by its own numbers and against the champion it would replace.

    Args:
        num_bytes: of its files.
    """
    spoken = _spoken(candidate, thresholds)
    checks = [
        _floor(candidate, "psnr_db", thresholds.min_psnr_db, "dB"),
        *_sync_floors(candidate, thresholds, by_probe=all(check.passed for check in spoken)),
        *spoken,
        _size(num_bytes, thresholds.max_mb),
    ]
    if champion is not None:
        checks.append(_no_drop(candidate, champion, _PROBE_SYNC, thresholds.max_probe_sync_drop, ""))
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


def _spoken(candidate: VersionDetails, thresholds: GateThresholds) -> list[GateCheck]:
    """Whether the voice has learned to move the lips: on held-out parts, and speaking the probe sentence."""
    offset = candidate.metrics.get(_PROBE_OFFSET)
    limit = thresholds.max_probe_sync_offset_frames
    near = offset is not None and abs(offset) <= limit
    told = "was not measured" if offset is None else f"{offset:+.1f} frames"
    return [
        _floor(candidate, "fit.speech_held_out_r", thresholds.min_speech_held_out_r, ""),
        _floor(candidate, _PROBE_SYNC, thresholds.min_probe_sync_confidence, ""),
        GateCheck(
            name=_PROBE_OFFSET,
            passed=near,
            detail=f"{_PROBE_OFFSET} {told}, allowed are {limit:g} either way",
            value=offset,
            limit=limit,
        ),
        _floor(candidate, "probe.closure_mbp", thresholds.min_probe_closure, ""),
    ]


def _size(num_bytes: int, most_mb: float) -> GateCheck:
    found_mb = num_bytes / 1e6
    relation = "at most" if found_mb <= most_mb else "more than"
    detail = f"its files are {found_mb:.1f} MB, {relation} {most_mb:g}"
    return GateCheck(name="size_mb", passed=found_mb <= most_mb, detail=detail, value=found_mb, limit=most_mb)


def _floor(candidate: VersionDetails, metric: str, floor: float, unit: str) -> GateCheck:
    value = candidate.metrics.get(metric)
    if value is None or not math.isfinite(value):
        detail = f"{metric} was not measured (need at least {_number(floor, unit)})"
        return GateCheck(name=metric, passed=False, detail=detail, limit=floor)
    relation = ">=" if value >= floor else "below"
    detail = f"{metric} {_number(value, unit)} {relation} {_number(floor, unit)}"
    return GateCheck(name=metric, passed=value >= floor, detail=detail, value=value, limit=floor)


def _sync_floors(candidate: VersionDetails, thresholds: GateThresholds, *, by_probe: bool) -> list[GateCheck]:
    """Lip sync on its own test frames; where those are too few, what the probe sentence shows decides."""
    own = candidate.metrics.get("recording_sync_confidence")
    measured = candidate.metrics.get("sync_confidence")
    if own is None and measured is None and "num_frames" in candidate.metrics:
        frames = candidate.metrics["num_frames"]
        shown = "shows that it speaks" if by_probe else "does not show that it speaks"
        detail = f"{frames:.0f} test frames are too few to measure lip sync; the probe sentence {shown}"
        return [GateCheck(name="sync_confidence", passed=by_probe, detail=detail)]
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
