"""What a replica says of its speed."""

from __future__ import annotations

from serve_apps.rendering.load import Load


class Renders:
    """Renders at the same time on a replica, by a clock of their own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.load = Load(clock=lambda: self.now)
        self._num = 0

    def run(self, num: int, *, rate: float, seconds: float = 6.0) -> None:
        """So many at once, each ``seconds`` long, of which the replica makes ``rate`` s of video in a second."""
        names = [f"r{self._num + n}" for n in range(num)]
        self._num += num
        for name in names:
            self.load.left(name, seconds)
        for step in range(1, 11):
            self.now += num * seconds / rate / 10
            for name in names:
                self.load.left(name, seconds * (1 - step / 10))
        for name in names:
            self.load.over(name)

    @property
    def throughput(self) -> float | None:
        return self.load.figures().get("throughput")


def test_nothing_is_said_of_a_speed_that_was_not_measured():
    assert Renders().throughput is None


def test_renders_at_the_same_time_add_up():
    renders = Renders()
    renders.run(60, rate=75.0, seconds=2.0)
    assert abs(renders.throughput - 75.0) < 1e-6


def test_a_replica_with_little_to_do_is_not_taken_for_a_slow_one():
    renders = Renders()
    renders.run(60, rate=75.0)
    renders.run(1, rate=5.0)
    assert abs(renders.throughput - 75.0) < 1e-6


def test_what_was_reached_with_more_renders_is_forgotten_in_time():
    renders = Renders()
    renders.run(60, rate=75.0)
    renders.now += 3600.0
    renders.run(1, rate=5.0)
    assert abs(renders.throughput - 5.0) < 1e-6


def test_a_replica_that_slows_down_says_so():
    renders = Renders()
    renders.run(1, rate=4.0)
    for _ in range(20):
        renders.run(1, rate=1.0)
    assert abs(renders.throughput - 1.0) < 0.1


def test_time_without_work_does_not_count():
    renders = Renders()
    renders.run(1, rate=2.0)
    renders.now += 100.0
    renders.run(1, rate=2.0)
    assert abs(renders.throughput - 2.0) < 1e-6


def test_loading_counts_with_the_render_it_was_for():
    renders = Renders()
    renders.load.left("a", 6.0)
    renders.now += 3.0
    renders.load.left("a", 6.0)
    renders.now += 3.0
    renders.load.left("a", 0.0)
    renders.load.over("a")
    assert abs(renders.throughput - 1.0) < 1e-6


def test_a_long_render_says_how_fast_it_is_before_it_ends():
    renders = Renders()
    renders.load.left("a", 600.0)
    for second in range(1, 41):
        renders.now += 1.0
        renders.load.left("a", 600.0 - 2.0 * second)
    assert abs(renders.throughput - 2.0) < 1e-6


def test_a_render_that_fails_at_once_makes_no_replica_slow():
    renders = Renders()
    renders.run(1, rate=2.0)
    for name in "abc":
        renders.load.left(name, 6.0)
        renders.load.over(name)
    assert abs(renders.throughput - 2.0) < 1e-6


def test_work_that_is_over_is_no_work_and_a_word_about_it_makes_none():
    load = Load()
    load.left("a", 6.0)
    load.over("a")
    load.left("a", 0.0)
    load.over("never begun")
    assert load.figures() == {"running_seconds": 0.0, "begun_seconds": 0.0, "num_running": 0.0}
