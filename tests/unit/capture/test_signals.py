"""Blinks, brows and lips: ratios that do not change when the head does."""

import numpy as np
import pytest

from m2dao.capture.cameras import OUTER_EYE_DISTANCE_M  # noqa: F401  (the unit lip openings are measured in)
from m2dao.capture.face_layout import face_layout
from m2dao.capture.rotations import rotation_from_vector
from m2dao.capture.signals import EXPRESSION_NAMES, INNER_LIP_PAIRS, LEFT_LID_PAIRS, RIGHT_LID_PAIRS, measure_signals

T = 60


def faces(lip_gap, left_lids, right_lids, brow_lift=None, turn=None, scale=100.0):
    """Landmarks [T, 478, 3] of a flat face whose lip and lid gaps are set; all gaps in outer-eye distances."""
    flat = np.zeros((478, 3))
    flat[:468, :2] = face_layout()
    frames = np.tile(flat, (len(lip_gap), 1, 1))
    for pairs, gaps in ((INNER_LIP_PAIRS, lip_gap), (LEFT_LID_PAIRS, left_lids), (RIGHT_LID_PAIRS, right_lids)):
        for upper, lower in pairs:
            middle = (flat[upper, 1] + flat[lower, 1]) / 2
            frames[:, upper, 1], frames[:, lower, 1] = middle - gaps / 2, middle + gaps / 2
    if brow_lift is not None:
        for index in (285, 295, 282, 283, 276, 336, 296, 334, 293, 300):
            frames[:, index, 1] -= brow_lift
    if turn is not None:
        frames = np.einsum("tij,tnj->tni", rotation_from_vector(turn), frames)
    return frames * scale + 300.0


def measured(**options):
    still = {"lip_gap": np.zeros(T), "left_lids": np.full(T, 0.12), "right_lids": np.full(T, 0.12)}
    return measure_signals(faces(**{**still, **options}), np.zeros((T, 52)))


def test_lip_opening_is_the_gap_in_eye_distances():
    gap = np.linspace(0, 0.3, T)
    np.testing.assert_allclose(measured(lip_gap=gap).lip_opening, gap, atol=1e-3)


def test_lips_that_overlap_count_as_closed():
    assert measured(lip_gap=np.full(T, -0.02)).lip_opening.max() == 0


def test_a_turning_head_that_comes_closer_changes_no_signal():
    gap = 0.1 + 0.05 * np.sin(np.arange(T) / 3)
    turn = np.stack([0.2 * np.sin(np.arange(T) / 9), 0.5 * np.sin(np.arange(T) / 7), 0.3 * np.cos(np.arange(T) / 11)], -1)
    still, turned = measured(lip_gap=gap), measured(lip_gap=gap, turn=turn, scale=173.0)
    np.testing.assert_allclose(turned.lip_opening, still.lip_opening, atol=2e-3)
    np.testing.assert_allclose(turned.lip_width, still.lip_width, atol=2e-3)
    np.testing.assert_allclose(turned.expression, still.expression, atol=0.03)


def test_each_eye_has_its_own_blink_relative_to_how_open_it_usually_is():
    lids = np.full(T, 0.12)
    lids[20:23] = 0.02
    signals = measured(left_lids=lids, right_lids=np.full(T, 0.08))
    assert signals.blink[20:23, 0].min() == 1.0
    assert signals.blink[:20, 0].max() < 0.05
    assert signals.blink[:, 1].max() < 0.05  # a narrow eye is not a closed one


def test_a_raised_brow_is_told_by_side():
    lift = np.zeros(T)
    lift[30:35] = 0.05
    raised = dict(zip(EXPRESSION_NAMES, measured(brow_lift=lift).expression.T, strict=True))
    assert raised["brow_raise_left"][30:35].min() > 0.4
    assert np.abs(raised["brow_raise_right"]).max() == pytest.approx(0, abs=0.02)
