"""A short fit looks at the seconds that differ most; their frames all come up, rare ones more often."""

import numpy as np
import pytest

from m2dao.capture.dataset import Capture
from m2dao.training.budget import FitBudget
from m2dao.training.frames.choose import SEGMENT_FRAMES, FrameOrder, choose_frames
from tests.support.small_capture import make_small_capture

NUM_FRAMES = 12 * SEGMENT_FRAMES


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return Capture.open(make_small_capture(tmp_path_factory.mktemp("segments") / "ball", num_frames=NUM_FRAMES))


def segments_of(frames):
    return sorted({int(frame) // SEGMENT_FRAMES for frame in frames})


def test_all_frames_where_there_are_no_more_than_wanted(capture):
    assert np.array_equal(choose_frames(capture, 150, 150), np.arange(150))


def test_whole_segments_of_the_training_part_and_what_must_be_there(capture):
    frames = choose_frames(capture, 260, 75, always=(3, 259))
    assert {3, 259} <= set(frames.tolist())
    assert frames.max() < 260
    assert np.array_equal(frames, np.unique(frames))
    assert len(frames) in (75, 76, 77)


def test_the_one_second_that_differs_is_among_the_first_two(capture):
    poses, lips, width = capture.viewmats.copy(), capture.lip_opening.copy(), capture.lip_width.copy()
    poses[:], lips[:], width[:] = poses[0], 0.05, 0.4
    odd = 7
    part = slice(odd * SEGMENT_FRAMES, (odd + 1) * SEGMENT_FRAMES)
    turned = poses[part].copy()
    turned[:, 0, 3] += 0.05
    poses[part] = turned
    rows = capture.feature("phones")
    same = np.broadcast_to(rows[:1], rows.shape)

    class Still:
        viewmats, lip_opening, lip_width = poses, lips, width
        valid, num_frames = capture.valid, capture.num_frames

        def feature(self, name):
            return same

    assert odd in segments_of(choose_frames(Still(), 275, 50))


def test_a_second_without_a_face_is_not_chosen(capture):
    hidden = capture.valid.copy()
    hidden[: 3 * SEGMENT_FRAMES] = False

    class Hidden:
        viewmats, lip_opening, lip_width = capture.viewmats, capture.lip_opening, capture.lip_width
        valid, num_frames, feature = hidden, capture.num_frames, capture.feature

    assert min(segments_of(choose_frames(Hidden(), 275, 200))) >= 3


def test_longer_budgets_look_at_more_frames():
    assert FitBudget(minutes=1).num_frames == 480
    assert FitBudget(minutes=10).num_frames == 4800
    assert FitBudget(steps=20).num_frames == 250


@pytest.mark.parametrize(("num_rare", "times"), [(2, 3), (5, 2), (9, 1), (40, 1)])
def test_rare_frames_come_up_more_often_but_make_up_no_more_than_a_tenth(num_rare, times):
    usable, rare = np.arange(100, 200), np.arange(100, 100 + num_rare)
    order = FrameOrder(usable, rare, 3, seed=0)
    epoch = [order.frame_of(step) for step in range(100 + (times - 1) * num_rare)]
    assert {index: epoch.count(index) for index in usable} == {
        index: times if index in rare else 1 for index in usable.tolist()
    }
    assert times == 1 or times * num_rare <= 0.1 * len(epoch)


def test_a_skipped_frame_makes_way_for_the_next():
    order = FrameOrder(np.arange(50), np.arange(0), 1, seed=0)
    first, second = order.frame_of(0), order.frame_of(1)
    assert order.skip(first)
    assert order.frame_of(0) == second
    assert first not in {order.frame_of(step) for step in range(50)}


def test_a_window_rises_from_frames_with_closed_mouths_to_open_ones():
    opening = np.random.default_rng(0).permutation(200) / 200.0
    usable = np.arange(100, 200)
    order = FrameOrder(usable, np.arange(0), 1, seed=0, opening=opening)
    ranks = np.argsort(np.argsort(opening[usable]))
    for rise, lowest in ((0.0, 0), (0.5, 40), (1.0, 80)):
        taken = [order.frame_in_window(step, rise) for step in range(300)]
        assert {int(ranks[index - 100]) for index in taken} == set(range(lowest, lowest + 20))
        assert taken == [order.frame_in_window(step, rise) for step in range(300)], "the step alone decides"
    assert order.skip(taken[0])
    assert taken[0] not in {order.frame_in_window(step, 1.0) for step in range(300)}
