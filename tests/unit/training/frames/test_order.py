"""Every frame comes up, and rare ones more often."""

import numpy as np
import pytest

from m2dao.training.frames.choose import FrameOrder


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
