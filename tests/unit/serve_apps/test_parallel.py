"""Things done at the same time end together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve_apps.parallel import do_all


def test_an_error_waits_for_what_runs_beside_it():
    failed, done = threading.Event(), threading.Event()

    def fail():
        failed.set()
        raise ValueError("first")

    def go_on():
        assert failed.wait(60)
        done.set()

    with ThreadPoolExecutor(2) as threads, pytest.raises(ValueError, match="first"):
        do_all(threads, [fail, go_on])
    assert done.is_set()


def test_all_run_at_the_same_time():
    together = threading.Barrier(3)
    with ThreadPoolExecutor(3) as threads:
        do_all(threads, [lambda: together.wait(60)] * 3)
