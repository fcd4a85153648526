"""How many replicas a backlog asks for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from serve_apps.rendering.autoscaling import BacklogPolicy, desired_replicas


def queue(queued_s=0.0, num_queued=0, claimed_s=0.0, num_claimed=0):
    return {
        "queued_seconds": queued_s,
        "num_queued": float(num_queued),
        "claimed_seconds": claimed_s,
        "num_claimed": float(num_claimed),
    }


def replica(running_s=0.0, throughput=2.0, num_running=None, begun_s=None):
    return {
        "running_seconds": running_s,
        "begun_seconds": running_s if begun_s is None else begun_s,
        "num_running": float(running_s > 0 if num_running is None else num_running),
        "throughput": throughput,
    }


def desired(waits, *replicas, concurrency=1, current=3):
    return desired_replicas(waits, replicas, target_wait_s=20.0, concurrency=concurrency, current=current)


def test_no_work_needs_no_replica():
    assert desired(queue(), replica()) == 0


def test_seconds_of_work_count_and_not_requests():
    assert desired(queue(160, 4), replica()) == 4  # 80 s of work in 20 s
    assert desired(queue(40, 40), replica()) == 1  # many short ones


def test_one_long_render_cannot_use_more_than_one_replica():
    assert desired(queue(3600, 1), replica()) == 1
    assert desired(queue(3600, 5), replica(), concurrency=2) == 3


def test_what_is_under_way_counts():
    assert desired(queue(), replica(60.0), replica(60.0)) == 2


def test_slow_replicas_ask_for_more_of_them():
    assert desired(queue(40, 9), replica(throughput=0.5)) == 4
    assert desired(queue(40, 9), replica(throughput=10.0)) == 1


def test_many_renders_on_one_gpu_are_not_taken_for_slow_ones():
    """Sixty at once make 75 s of video a second, though each of them takes 0.8 s for a second."""
    busy = replica(120.0, throughput=75.0, num_running=60)
    assert desired(queue(40, 20), busy, concurrency=64) == 1
    assert desired(queue(4000, 100), busy, concurrency=64) == 3


def test_a_replica_that_has_measured_nothing_counts_as_one_of_the_measured_ones():
    fresh = {name: value for name, value in replica().items() if name != "throughput"}
    assert desired(queue(400, 99), replica(throughput=10.0), fresh) == 2
    assert desired(queue(40, 9), fresh) == 1  # nobody has: the usual one


def test_while_nobody_can_read_the_queue_nothing_changes():
    assert desired(None, replica(60.0)) == 3


def test_renders_that_are_claimed_and_not_begun_are_work_too():
    busy = replica(1.0, begun_s=10.0)
    assert desired(queue(), busy) == 1
    assert desired(queue(claimed_s=1210.0, num_claimed=3), busy) == 3  # this one, and two of 600 s


def reported(by_replica, *, current=1, least=1):
    """As Serve gives them: replica -> (when, figures); an older value of every report is misleading."""
    series = {}
    for name, (when, figures) in by_replica.items():
        for figure, value in figures.items():
            old = SimpleNamespace(value=1e6, timestamp=when - 1)
            new = SimpleNamespace(value=value, timestamp=when)
            series.setdefault(figure, {})[name] = [old, new]
    return SimpleNamespace(
        raw_metrics=series,
        target_num_replicas=current,
        capacity_adjusted_min_replicas=least,
        capacity_adjusted_max_replicas=4,
    )


@pytest.mark.parametrize(("queued_s", "expected"), [(0, 1), (80, 2), (10_000, 4)])
def test_the_policy_uses_the_newest_report_and_stays_within_bounds(queued_s, expected):
    policy = BacklogPolicy(target_wait_s=20)
    assert policy(reported({"a": (5.0, {**queue(queued_s, 99), **replica()})})) == (expected, {})


def test_one_reading_of_the_queue_counts_however_many_replicas_there_are():
    """A replica that lost Redis has said nothing of the queue since; what it read then is long done."""
    policy = BacklogPolicy(target_wait_s=20)
    reports = {"lost": (1.0, {**queue(10_000, 99), **replica()}), "b": (9.0, {**queue(80, 9), **replica()})}
    assert policy(reported(reports)) == (2, {})
    assert policy(reported({"b": reports["b"], "lost": reports["lost"]})) == (2, {})


def test_replicas_that_need_not_be_kept_all_leave_when_there_is_nothing_to_do():
    policy = BacklogPolicy(target_wait_s=20)
    assert policy(reported({"a": (5.0, {**queue(), **replica()})}, least=0)) == (0, {})
    assert policy(reported({"a": (5.0, {**queue(1, 1), **replica()})}, least=0)) == (1, {})


def test_before_any_report_the_policy_changes_nothing():
    assert BacklogPolicy(target_wait_s=20)(reported({}, current=0, least=0)) == (0, {})
    assert BacklogPolicy(target_wait_s=20)(reported({})) == (1, {})
