"""How many replicas a backlog asks for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from serve_apps.rendering.autoscaling import BacklogPolicy, desired_replicas


def stats(*, queued_s=0.0, num_queued=0, running_s=(0.0,), factor=0.5):
    replicas = range(len(running_s))
    return {
        "queued_seconds": dict.fromkeys(replicas, queued_s),
        "num_queued": {r: float(num_queued) for r in replicas},
        "running_seconds": dict(enumerate(running_s)),
        "num_running": {r: float(seconds > 0) for r, seconds in enumerate(running_s)},
        "real_time_factor": dict.fromkeys(replicas, factor),
    }


def desired(target_wait_s=20.0, concurrency=1, current=3, **figures):
    return desired_replicas(stats(**figures), target_wait_s=target_wait_s, concurrency=concurrency, current=current)


def test_no_work_needs_no_replica():
    assert desired() == 0


def test_seconds_of_work_count_and_not_requests():
    assert desired(queued_s=160, num_queued=4) == 4  # 80 s of work in 20 s
    assert desired(queued_s=40, num_queued=40) == 1  # many short ones


def test_one_long_render_cannot_use_more_than_one_replica():
    assert desired(queued_s=3600, num_queued=1) == 1
    assert desired(queued_s=3600, num_queued=5, concurrency=2) == 3


def test_what_is_under_way_counts():
    assert desired(running_s=(60.0, 60.0), queued_s=0) == 2


def test_the_same_queue_seen_by_every_replica_counts_once():
    assert desired(queued_s=80, num_queued=9, running_s=(0.0, 0.0, 0.0)) == 2


def test_slow_replicas_ask_for_more_of_them():
    assert desired(queued_s=40, num_queued=9, factor=2.0) == 4
    assert desired(queued_s=40, num_queued=9, factor=0.1) == 1


def test_before_any_report_nothing_changes():
    assert desired_replicas({}, target_wait_s=20, concurrency=1, current=3) == 3


def series(by_name):
    """As Serve gives them: the old value of every report is misleading."""
    old = SimpleNamespace(value=1e6)
    return {
        name: {replica: [old, SimpleNamespace(value=value)] for replica, value in values.items()}
        for name, values in by_name.items()
    }


@pytest.mark.parametrize(("queued_s", "expected"), [(0, 1), (80, 2), (10_000, 4)])
def test_the_policy_uses_the_newest_report_and_stays_within_bounds(queued_s, expected):
    policy = BacklogPolicy(target_wait_s=20)
    ctx = SimpleNamespace(
        raw_metrics=series(stats(queued_s=queued_s, num_queued=99)),
        target_num_replicas=1,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=4,
    )
    assert policy(ctx) == (expected, {})


def test_renders_that_are_claimed_and_not_begun_are_work_too():
    busy = {"running_seconds": {"a": 1.0}, "begun_seconds": {"a": 10.0}, "num_running": {"a": 1.0}}
    queue = {"queued_seconds": {"a": 0.0}, "num_queued": {"a": 0.0}, "real_time_factor": {"a": 0.5}}
    claimed = {"claimed_seconds": {"a": 1210.0}, "num_claimed": {"a": 3.0}}  # this one, and two of 600 s
    wanted = {"target_wait_s": 20.0, "concurrency": 1, "current": 1}
    assert desired_replicas({**busy, **queue}, **wanted) == 1
    assert desired_replicas({**busy, **queue, **claimed}, **wanted) == 3
