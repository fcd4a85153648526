"""The parts of the ``cpu`` backend one by one: vectors, tile lists, sharing of work."""

import threading

import numpy as np
import pytest

from m2dao.kernels import simd
from m2dao.kernels.compiled import kernel
from m2dao.kernels.simd import exp2_8, load8, store8, sum8
from m2dao.kernels.threads import get_num_threads, set_num_threads, share_out
from m2dao.render import cpu_bins


@kernel()
def exp2_of(values, table, results):
    for index in range(0, values.shape[0], 8):
        store8(results, index, exp2_8(load8(values, index), table, 8))


@kernel()
def sum_of(values):
    return sum8(load8(values, 0))


def test_exp2_is_right_to_float32_rounding():
    values = np.concatenate([np.linspace(-9, 0, 8 * 5000), np.linspace(-126, 126, 8 * 100)]).astype(np.float32)
    table = np.concatenate([np.full(8, np.nan, np.float32), simd.EXP2_TABLE])
    results = np.empty_like(values)
    exp2_of(values, table, results)
    exact = np.exp2(values.astype(np.float64))
    assert np.abs(results / exact - 1).max() < 3e-7


def test_lanes_are_added_in_a_fixed_order():
    values = np.array([1e8, 1, -1e8, 1, 3, 5, 7, 9], np.float32)
    expected = np.float32(0)
    left = values[:4] + values[4:]
    left = left[:2] + left[2:]
    expected = left[0] + left[1]
    assert sum_of(values) == expected


def test_depth_sort_is_stable_and_skips_what_is_not_drawn():
    generator = np.random.default_rng(0)
    depths = generator.choice(np.float32([0.01, 0.5, 0.50000006, 3, 1e9]), 500)
    boxes = np.zeros((500, 4), np.int32)
    drawn = generator.random(500) < 0.7
    boxes[drawn] = [0, 1, 0, 1]
    depths[~drawn] = np.nan
    ids = cpu_bins.sort_by_depth(depths, boxes)
    expected = np.flatnonzero(drawn)[np.argsort(depths[drawn], kind="stable")]
    assert ids.tolist() == expected.tolist()


def test_every_tile_lists_exactly_the_boxes_that_touch_it_front_to_back():
    generator = np.random.default_rng(1)
    num_tiles_x, num_tiles_y = 4, 5
    width, height = num_tiles_x * cpu_bins.TILE_WIDTH - 3, num_tiles_y * cpu_bins.TILE_HEIGHT - 5
    columns = np.sort(generator.integers(0, width + 1, (200, 2)), axis=1)
    rows = np.sort(generator.integers(0, height + 1, (200, 2)), axis=1)
    boxes = np.concatenate([columns, rows], axis=1).astype(np.int32)
    boxes[(columns[:, 0] == columns[:, 1]) | (rows[:, 0] == rows[:, 1])] = 0
    ids = generator.permutation(np.flatnonzero(boxes[:, 1])).astype(np.int32)
    tile_begins, pair_ids, pair_slots, slot_begins = cpu_bins.deal_out(ids, boxes, num_tiles_x, num_tiles_y)
    for tile in range(num_tiles_x * num_tiles_y):
        left, top = tile % num_tiles_x * cpu_bins.TILE_WIDTH, tile // num_tiles_x * cpu_bins.TILE_HEIGHT
        box = boxes[ids]
        touches = (box[:, 0] < left + cpu_bins.TILE_WIDTH) & (box[:, 1] > left)
        touches &= (box[:, 2] < top + cpu_bins.TILE_HEIGHT) & (box[:, 3] > top)
        assert pair_ids[tile_begins[tile] : tile_begins[tile + 1]].tolist() == ids[touches].tolist()
    assert sorted(pair_slots.tolist()) == list(range(len(pair_ids)))
    assert ((pair_slots >= slot_begins[pair_ids]) & (pair_slots < slot_begins[pair_ids + 1])).all()


@pytest.fixture
def four_threads():
    before = get_num_threads()
    set_num_threads(4)
    yield
    set_num_threads(before)


def take(queue, lock):
    with lock:
        number = int(queue[0])
        queue[0] += 1
    return number


def test_every_piece_of_work_is_done_once_by_callers_and_helpers(four_threads):
    lock, done, names = threading.Lock(), [], set()
    two_at_work = threading.Barrier(2)

    def kernel(queue):
        number = take(queue, lock)
        if number < 2:
            two_at_work.wait(timeout=60)  # the first two pieces are in two hands at once
        while number < 50:
            done.append(number)
            names.add(threading.current_thread().name)
            number = take(queue, lock)

    share_out(kernel, max_threads=4)
    assert sorted(done) == list(range(50))
    assert len(names) >= 2


def test_a_caller_does_not_wait_for_helpers_that_never_began(four_threads, monkeypatch):
    """With every helper busy elsewhere, the caller does all the work alone and returns."""
    lock, release, occupied, done = threading.Lock(), threading.Event(), threading.Event(), []

    class OneBusyHelper:
        def __init__(self):
            from concurrent.futures import ThreadPoolExecutor

            self.pool = ThreadPoolExecutor(1)
            self.pool.submit(lambda: (occupied.set(), release.wait(timeout=60)))

        def submit(self, *args):
            return self.pool.submit(*args)

    busy = OneBusyHelper()
    occupied.wait(timeout=60)
    monkeypatch.setattr("m2dao.kernels.threads._pool", lambda process: busy)

    def kernel(queue):
        while (number := take(queue, lock)) < 10:
            done.append((number, threading.current_thread()))

    share_out(kernel, max_threads=4)
    assert [number for number, _ in done] == list(range(10))
    assert {thread for _, thread in done} == {threading.current_thread()}
    release.set()
    busy.pool.shutdown()


def test_an_error_of_a_helper_reaches_the_caller(four_threads):
    caller = threading.current_thread()
    failing = threading.Event()

    def kernel(queue):
        if threading.current_thread() is caller:
            failing.wait(timeout=60)
        else:
            failing.set()
            raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        share_out(kernel, max_threads=2)
