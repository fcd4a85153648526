"""Progress is a bar in a terminal, and in a log a line at each stage and every ten seconds."""

from __future__ import annotations

import io

import pytest

from m2dao.progress import Progress, counted, counting, showing


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lines_of(clock, stages, seconds, *, name="fit") -> list[str]:
    """What a log gets of as many updates, spread over the seconds."""
    log = io.StringIO()
    with Progress([name], stream=log, clock=clock) as progress:
        for number, what in enumerate(stages):
            progress.show(name, what, number / len(stages))
            clock.now_s += seconds / len(stages)
    return log.getvalue().splitlines()


def test_ten_thousand_updates_of_one_stage_in_35_seconds_are_four_lines(clock):
    lines = lines_of(clock, ["learning"] * 10_000, 35)
    assert lines == [
        "fit   0% 00:00 learning",
        *(f"fit  {p}% 00:{s} learning" for p, s in ((29, 10), (57, 20), (86, 30))),
    ]


def test_each_stage_gets_one_line_however_often_stages_take_turns(clock):
    turns = [
        "decoding",
        *(f"step {step}, {('face', 'mouth')[step % 2]}, loss {0.1 / (step + 1)}" for step in range(9999)),
    ]
    lines = lines_of(clock, turns, 35)
    assert len(lines) <= 4 + 2
    for stage in ("decoding", ", face, ", ", mouth, "):
        assert any(stage in line for line in lines)


def test_a_stage_that_lasts_says_every_ten_seconds_where_it_is(clock):
    lines = lines_of(clock, [f"{number} of 60 frames" for number in range(60)], 60)
    assert [line.split()[3] for line in lines] == ["0", "10", "20", "30", "40", "50"]


def test_a_stage_that_begins_between_two_lines_is_told_at_once(clock):
    log = io.StringIO()
    with Progress(["prepare"], stream=log, clock=clock) as progress:
        progress.show("prepare", "reading", 0.0)
        clock.now_s += 3
        progress.show("prepare", "following the face", 0.2)
        clock.now_s += 9
        progress.show("prepare", "following the face", 0.5)
        clock.now_s += 1
        progress.show("prepare", "following the face", 0.6)
    assert log.getvalue().splitlines() == [
        "prepare   0% 00:00 reading",
        "prepare  20% 00:03 following the face",
        "prepare  60% 00:13 following the face",
    ]


def test_pieces_of_work_side_by_side_have_lines_of_their_own(clock):
    log = io.StringIO()
    with Progress(["anna", "benjamin"], stream=log, clock=clock) as progress:
        progress.show("anna", "fit: step 20", 0.5)
        progress.show("benjamin", "fit: step 10", 0.25)
        progress.show("anna", "fit: step 40", 1.5)
        progress.show("anna", "evaluate", 1.5)
    assert log.getvalue().splitlines() == [
        "anna      50% 00:00 fit: step 20",
        "benjamin  25% 00:00 fit: step 10",
        "anna     100% 00:00 evaluate",
    ]


def test_a_terminal_gets_bars_that_end_where_the_work_ended(clock):
    terminal = Terminal()
    with Progress(["anna", "ben"], stream=terminal, clock=clock) as progress:
        for number in range(101):
            progress.show("anna", f"step {number}", number / 100)
        progress.show("ben", "waiting", None)
    shown = terminal.getvalue()
    assert "anna 100%|####" in shown.replace("█", "#")
    assert "step 100" in shown
    assert "waiting" in shown
    assert shown.count("\r") < 20  # not one for every update: no time has passed


def test_counted_items_are_all_handed_on_and_counted_on_standard_error(capsys):
    assert list(counted(iter("abc"), "render", total=3)) == ["a", "b", "c"]
    assert list(counted(iter("abc"), "inspect")) == ["a", "b", "c"]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == ["render  33% 00:00 1 of 3 frames", "inspect 00:00 1 frames"]


def test_bytes_are_counted_in_larger_units(capsys):
    with counting("fetching voice", unit="MiB", per_unit=2**20) as count:
        count(5 * 2**20)
    assert capsys.readouterr().err == "fetching voice 00:00 5 MiB\n"


def test_work_that_fails_leaves_its_error_to_the_caller(capsys):
    def work():
        with showing("prepare") as show:
            show("reading", 0.1)
            raise ValueError("no video")

    with pytest.raises(ValueError, match="no video"):
        work()
    assert capsys.readouterr().err == "prepare  10% 00:00 reading\n"
