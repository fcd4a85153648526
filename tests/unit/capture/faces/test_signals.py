"""Blinks, brows, gaze and lips: ratios that do not change when the head does."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from m2dao.capture.cameras.solve import OUTER_EYE_DISTANCE_M  # noqa: F401  (the unit lip openings are measured in)
from m2dao.capture.faces.layout import face_layout
from m2dao.capture.faces.signals import (
    EXPRESSION_NAMES,
    GAZE_RANGE,
    LEFT_EYE_CORNERS,
    RIGHT_EYE_CORNERS,
    measure_signals,
)
from m2dao.regions import INNER_LIP_PAIRS, LEFT_IRIS, LEFT_LID_PAIRS, RIGHT_IRIS, RIGHT_LID_PAIRS

T = 60


def faces(lip_gap, left_lids, right_lids, brow_lift=None, glance=None, turn=None, scale=100.0):
    """Landmarks [T, 478, 3] of a flat face whose lip and lid gaps are set.

    All gaps are in outer-eye distances, glances [T, 2] in half widths of an eye.
    """
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
    for iris, (one, other) in ((LEFT_IRIS, LEFT_EYE_CORNERS), (RIGHT_IRIS, RIGHT_EYE_CORNERS)):
        frames[:, iris] = (flat[one] + flat[other]) / 2
        if glance is not None:
            frames[:, iris, :2] += glance * np.linalg.norm(flat[one] - flat[other]) / 2
    if turn is not None:
        frames = np.einsum("tij,tnj->tni", Rotation.from_rotvec(turn).as_matrix(), frames)
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
    turn = np.stack(
        [0.2 * np.sin(np.arange(T) / 9), 0.5 * np.sin(np.arange(T) / 7), 0.3 * np.cos(np.arange(T) / 11)], -1
    )
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


def test_gaze_is_where_the_irises_are_and_does_not_care_how_the_head_turns():
    glance = np.zeros((T, 2))
    glance[20:40] = (0.2, -0.1)
    turn = np.stack([0.2 * np.sin(np.arange(T) / 9), 0.4 * np.sin(np.arange(T) / 7), np.zeros(T)], -1)
    for options in ({}, {"turn": turn, "scale": 173.0}):
        told = dict(zip(EXPRESSION_NAMES, measured(glance=glance, **options).expression.T, strict=True))
        np.testing.assert_allclose(told["gaze_across"], glance[:, 0] / GAZE_RANGE, atol=0.02)
        np.testing.assert_allclose(told["gaze_down"], glance[:, 1] / GAZE_RANGE, atol=0.02)


def test_irises_behind_closed_lids_move_evenly_to_where_they_come_up_again():
    glance, lids = np.zeros((T, 2)), np.full(T, 0.12)
    glance[30:, 0], glance[26:32, 1], lids[26:32] = 0.2, 0.9, 0.01  # the model puts hidden irises anywhere
    told = dict(
        zip(EXPRESSION_NAMES, measured(glance=glance, left_lids=lids, right_lids=lids).expression.T, strict=True)
    )
    assert np.abs(told["gaze_down"]).max() < 0.02
    assert (np.diff(told["gaze_across"][24:34]) >= -1e-6).all()
    assert np.ptp(told["gaze_across"]) == pytest.approx(0.8, abs=0.05)


def test_what_is_usual_for_a_person_is_that_of_the_training_part():
    rng = np.random.default_rng(0)
    still = faces(lip_gap=np.zeros(T), left_lids=np.full(T, 0.12), right_lids=np.full(T, 0.12))
    landmarks = np.repeat(still[:1], 110, axis=0) + 0.5 * rng.standard_normal((110, 478, 3))
    another = landmarks.copy()
    another[90:] += 8 * rng.standard_normal(another[90:].shape)  # the last two elevenths
    one, other = (measure_signals(each, np.zeros((110, 52))) for each in (landmarks, another))
    np.testing.assert_array_equal(one.blink[:90], other.blink[:90])
    np.testing.assert_array_equal(one.expression[:88], other.expression[:88])  # odd frames of the gaze are filtered
