"""The keeper: one works at a time, and killing it loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid

import pytest

from cluster.ids import IdentityName
from cluster.keeper.keeper import Keeper
from cluster.platform import Platform
from cluster.state.lease import Lease
from cluster.state.seats import KEEPER, Seats
from m2dao.errors import LeaseLost, StateUnavailable

ANNA = IdentityName("anna")


@pytest.fixture(scope="module")
def platform(stack):
    return Platform(stack)


@pytest.fixture
def seats(platform):
    return platform.state.seats


@pytest.fixture
def name():
    """A seat that no other test has."""
    return f"test-{uuid.uuid4().hex[:8]}"


def take(seats: Seats, name: str, holder: str, lease_s: float = 60.0):
    return seats.take(name, holder, lease_s=lease_s)


def test_a_seat_is_held_by_one_until_it_leaves_or_is_silent(seats, name):
    first = take(seats, name, "a")
    assert take(seats, name, "b") is None
    assert take(seats, name, "a") == first  # asked for again after a lost answer
    assert seats.is_held(name)
    seats.leave(first)
    assert not seats.is_held(name)
    second = take(seats, name, "b", lease_s=0.001)
    while (third := take(seats, name, "c")) is None:
        pass
    assert first.fence < second.fence < third.fence


def test_who_was_silent_for_too_long_learns_that_another_has_the_seat(seats, name):
    old = take(seats, name, "a", lease_s=0.001)
    while take(seats, name, "b") is None:
        pass
    with pytest.raises(LeaseLost, match="another holder"):
        seats.heartbeat(old, lease_s=60)
    seats.leave(old)
    assert seats.is_held(name)  # by b: the word of a does not count


def test_a_lease_keeps_a_seat_beyond_its_time(seats, name):
    seat = take(seats, name, "a", lease_s=0.4)
    renewed = threading.Event()

    class Counting:
        num = 0

        def heartbeat(self, claim, **more):
            seats.heartbeat(claim, **more)
            self.num += 1
            if self.num == 8:  # a time much longer than the lease
                renewed.set()

    with Lease(Counting(), seat, lease_s=0.4) as lease:
        assert renewed.wait(30)
        lease.check()
        assert take(seats, name, "b") is None


class Work:
    """A chore that says when it is done, and fails when told so."""

    name = "work"

    def __init__(self):
        self.done, self.fail, self.num = threading.Event(), [], 0

    def do(self, lease):
        self.num += 1
        if self.fail:
            raise self.fail.pop()
        self.done.set()
        return 0.01


def run(keeper: Keeper) -> tuple[threading.Thread, threading.Event]:
    stop = threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stop,))
    thread.start()
    return thread, stop


def test_one_keeper_works_the_other_waits_and_takes_over(seats):
    one, two = Work(), Work()
    first, stop_first = run(Keeper(seats, [one], lease_s=1.0))
    assert one.done.wait(30)
    second, stop_second = run(Keeper(seats, [two], lease_s=1.0))
    assert not two.done.wait(1.5)  # longer than a lease
    stop_first.set()
    first.join()
    assert two.done.wait(30)
    stop_second.set()
    second.join()
    assert not seats.is_held(KEEPER)


def test_a_chore_that_fails_is_done_again_and_holds_up_no_other(seats):
    failing, other = Work(), Work()
    failing.fail = [StateUnavailable("state store"), ZeroDivisionError("a defect")]
    thread, stop = run(Keeper(seats, [failing, other], lease_s=5.0))
    assert failing.done.wait(60)
    assert failing.num == 3
    assert other.num > 3
    stop.set()
    thread.join()


def start(platform: Platform) -> subprocess.Popen:
    env = {**os.environ, **platform.settings.to_env()}
    return subprocess.Popen([sys.executable, "-m", "cluster.keeper"], env=env)


def test_a_keeper_that_is_killed_leaves_its_work_to_the_next_which_shows_what_moved(platform, tenant, tmp_path):
    (tmp_path / "identity.json").write_text("{}")
    refs = [platform.registry.register_version(tenant, ANNA, tmp_path, metrics={}, tags={}) for _ in range(2)]
    client = platform.registry._client
    platform.state.champions.promote(refs[0])
    first = start(platform)
    try:
        wait_until(lambda: client.get_registered_model(f"{tenant}.anna").aliases == {"champion": "1"})
        second = start(platform)
        first.send_signal(signal.SIGKILL)
        platform.state.champions.promote(refs[1])
        wait_until(lambda: client.get_registered_model(f"{tenant}.anna").aliases == {"champion": "2", "previous": "1"})
    finally:
        for process in (first, second):
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    assert second.returncode == 0
    assert not platform.state.seats.is_held(KEEPER)


def wait_until(true, timeout_s: float = 120.0) -> None:
    pause = threading.Event()
    for _ in range(round(timeout_s / 0.1)):
        if true():
            return
        pause.wait(0.1)
    raise AssertionError("it never came true")
