"""Reading ahead keeps order, hands over errors and stops with its consumer."""

import threading

import pytest

from m2dao.capture.prefetch import ReadAhead, prefetch


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


def test_read_ahead_gives_every_index_in_any_order():
    asked = []
    with ReadAhead(lambda i: asked.append(i) or i * i, 20) as squares:
        for index in [7, 3, 0, 1, 2, 3, 4, 9, 10, 11, 18, 19]:
            assert squares(index) == index * index
    assert max(asked) <= 19
