"""The promotion gate, as a function of numbers."""

from __future__ import annotations

import math

import pytest

from cluster.control.promotion.checks import GateThresholds, judge
from cluster.ids import ModelRef
from cluster.state.versions import VersionDetails
from m2dao.errors import ConfigError
from tests.support.small_work import SPEAKS

CAPTURE = "a" * 64


def version(number: int, *, capture: str = CAPTURE, **metrics: float) -> VersionDetails:
    return VersionDetails(
        ref=ModelRef.parse(f"acme.anna@{number}"),
        metrics={"psnr_db": 31.0, "sync_confidence": 0.6, "num_frames": 100.0, **SPEAKS, **metrics},
        tags={"capture_sha256": capture},
    )


def test_a_good_first_version_passes_and_says_why():
    decision = judge(version(1), None, GateThresholds())
    assert decision.passed
    assert any("psnr_db 31.00 dB" in reason for reason in decision.reasons)


@pytest.mark.parametrize(("metric", "value"), [("psnr_db", 24.9), ("sync_confidence", 0.14)])
def test_a_version_below_a_floor_is_refused_for_that_reason_alone(metric, value):
    decision = judge(version(1, **{metric: value}), None, GateThresholds(min_psnr_db=25, min_sync_confidence=0.15))
    assert not decision.passed
    assert len(decision.reasons) == 1
    assert metric in decision.reasons[0]


def test_a_version_exactly_at_its_floors_passes():
    candidate = version(1, psnr_db=25.0, sync_confidence=0.2)
    assert judge(candidate, None, GateThresholds(min_psnr_db=25, min_sync_confidence=0.2)).passed


@pytest.mark.parametrize("metric", ["psnr_db", "sync_confidence"])
@pytest.mark.parametrize("value", [None, math.nan])
def test_what_was_not_measured_does_not_pass(metric, value):
    candidate = version(1, recording_sync_confidence=0.5)
    if value is None:
        del candidate.metrics[metric]
    else:
        candidate.metrics[metric] = value
    decision = judge(candidate, None, GateThresholds())
    assert not decision.passed
    assert "not measured" in decision.reasons[0]


@pytest.mark.parametrize(("own", "passes"), [(0.8, True), (1.21, False)])
def test_lip_sync_is_judged_by_what_the_recording_itself_has(own, passes):
    decision = judge(version(1, sync_confidence=0.6, recording_sync_confidence=own), None, GateThresholds())
    assert decision.passed is passes
    assert any("of the recording's own" in reason for reason in decision.reasons)


def test_where_test_frames_are_too_few_for_lip_sync_the_probe_sentence_decides():
    candidate = version(1, num_frames=12.0)
    del candidate.metrics["sync_confidence"]
    decision = judge(candidate, None, GateThresholds())
    assert decision.passed
    assert any("the probe sentence shows that it speaks" in reason for reason in decision.reasons)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("fit.speech_held_out_r", -0.07),
        ("probe.sync_confidence", 0.24),
        ("probe.sync_offset_frames", -15.0),
        ("probe.closure_mbp", 0.0),
        *((name, None) for name in SPEAKS),
    ],
)
@pytest.mark.parametrize("has_own_sync", [True, False])
def test_a_voice_that_has_learned_nothing_never_passes(metric, value, has_own_sync):
    """One of 5 s had a held-out r of -0.07, and passed because its test frames were too few."""
    candidate = version(1, num_frames=100.0 if has_own_sync else 11.0)
    if not has_own_sync:
        del candidate.metrics["sync_confidence"]
    if value is None:
        del candidate.metrics[metric]
    else:
        candidate.metrics[metric] = value
    decision = judge(candidate, None, GateThresholds())
    assert not decision.passed
    named = {check.name: check for check in decision.checks}
    assert not named[metric].passed
    assert named["sync_confidence"].passed is has_own_sync
    assert value is not None or "not measured" in named[metric].detail


def test_a_version_of_another_capture_is_compared_by_the_probe_sentence():
    champion = version(1, capture="b" * 64, **{"probe.sync_confidence": 0.9})
    candidate = version(2, **{"probe.sync_confidence": 0.65})
    decision = judge(candidate, champion, GateThresholds(max_probe_sync_drop=0.2))
    assert [check.name for check in decision.checks if not check.passed] == ["probe.sync_confidence_drop"]
    assert judge(candidate, champion, GateThresholds(max_probe_sync_drop=0.3)).passed


@pytest.mark.parametrize(("num_bytes", "passes"), [(2_000_000, True), (2_000_001, False)])
def test_a_version_is_as_large_as_is_allowed_at_most(num_bytes, passes):
    decision = judge(version(1), None, GateThresholds(max_mb=2.0), num_bytes=num_bytes)
    assert decision.passed is passes
    assert "size_mb" in {check.name for check in decision.checks}


@pytest.mark.parametrize(("drop", "passes"), [(0.5, True), (0.51, False), (-3.0, True)])
def test_a_challenger_may_fall_behind_the_champion_by_the_margin_at_most(drop, passes):
    champion, candidate = version(1, psnr_db=33.0), version(2, psnr_db=33.0 - drop)
    decision = judge(candidate, champion, GateThresholds(max_psnr_drop_db=0.5))
    assert decision.passed is passes
    assert passes or "acme.anna@1" in decision.reasons[0]


def test_losing_lip_sync_is_not_made_up_for_by_sharper_pictures():
    champion, candidate = version(1, sync_confidence=0.8), version(2, sync_confidence=0.5, psnr_db=40.0)
    assert not judge(candidate, champion, GateThresholds()).passed


@pytest.mark.parametrize("other", [{"capture": "b" * 64}, {"num_frames": 50.0}])
def test_numbers_from_different_test_sets_are_not_compared(other):
    champion, candidate = version(1, psnr_db=40.0, **other), version(2, psnr_db=30.0)
    decision = judge(candidate, champion, GateThresholds())
    assert decision.passed
    assert any("not compared" in reason for reason in decision.reasons)


@pytest.mark.parametrize("wrong", [{"min_psnr_db": math.nan}, {"max_psnr_drop_db": -1.0}])
def test_thresholds_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        GateThresholds(**wrong)
