"""Workers of a batch are asked for in steps, because each that waits for a place costs a controller."""

from __future__ import annotations

from types import SimpleNamespace

from train_jobs.supervisor import num_to_start


def fits(num_queued, *, attempt=0, retry_at_s=0.0):
    return [SimpleNamespace(status="queued", attempt=attempt, retry_at_s=retry_at_s)] * num_queued


def test_a_cluster_that_takes_all_is_filled_in_doubling_steps():
    started, asked = 0, []
    while started < 16:
        asked.append(num_to_start(fits(100), num_started=started, num_begun=started))
        started += asked[-1]
    assert asked == [1, 1, 2, 4, 8]


def test_on_a_full_cluster_no_more_wait_than_work():
    assert num_to_start(fits(6), num_started=1, num_begun=0) == 0
    assert num_to_start(fits(6), num_started=4, num_begun=2) == 0
    assert num_to_start(fits(6), num_started=3, num_begun=2) == 1


def test_none_is_asked_for_that_no_fresh_fit_waits_for_but_the_first():
    assert num_to_start(fits(4, attempt=1), num_started=0, num_begun=0) == 1
    assert num_to_start(fits(4, attempt=1), num_started=1, num_begun=1) == 0
    assert num_to_start(fits(4, retry_at_s=1.0), num_started=1, num_begun=1) == 0
    assert num_to_start(fits(1), num_started=4, num_begun=4) == 1
