"""Working ahead keeps order, hands over errors and stops with its consumer."""

import threading
import time

import pytest

from m2dao.capture.prefetch import in_turn, prefetch


def test_items_come_in_order_and_no_more_than_the_depth_are_computed_ahead():
    made = []

    def produce():
        for i in range(50):
            made.append(i)
            yield i

    for i, item in enumerate(prefetch(produce(), depth=3)):
        assert item == i
        assert len(made) <= i + 1 + 3 + 2  # depth, one waiting to be put, one being made


def test_an_error_of_the_producer_is_raised_after_the_items_before_it():
    def produce():
        yield 1
        raise ValueError("damaged")

    items = prefetch(produce())
    assert next(items) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(items)


def test_a_consumer_that_stops_ends_the_thread_and_closes_the_producer():
    closed = threading.Event()

    def produce():
        try:
            i = 0
            while True:
                yield i
                i += 1
        finally:
            closed.set()

    items = prefetch(produce(), depth=2)
    assert next(items) == 0
    items.close()
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_functions_work_in_turn_each_in_its_own_thread_and_results_keep_their_order():
    seen = {0: [], 1: []}

    def worker(number):
        def work(item):
            time.sleep(0.002 if item % 3 else 0.0)
            seen[number].append((item, threading.get_ident()))
            return item * item

        return work

    assert list(in_turn([worker(0), worker(1)], range(20))) == [(i, i * i) for i in range(20)]
    for number, rows in seen.items():
        assert [item for item, _ in rows] == list(range(number, 20, 2))
        assert len({thread for _, thread in rows}) == 1
    assert seen[0][0][1] != seen[1][0][1]


def test_what_a_function_raises_comes_in_its_items_place_and_nothing_goes_on_after_it():
    done = []

    def work(item):
        if item == 3:
            raise ValueError("three")
        done.append(item)

    results = in_turn([work, work], range(100), waiting_each=2)
    assert [next(results)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert max(done) < 10
