"""Processes that outlast their starter are found again, and only they are signalled."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from cluster.stack import processes
from m2dao.errors import StackError

WAIT = "import time; time.sleep(600)"


@pytest.fixture
def start(tmp_path):
    mark = f"test:{uuid.uuid4().hex}"
    record = tmp_path / "x.json"

    def spawn(program, wait_for=None):
        made = processes.spawn(
            [sys.executable, "-c", program],
            mark=mark,
            record=record,
            log=tmp_path / "x.log",
            env=dict(os.environ),
            cwd=tmp_path,
        )
        while wait_for and wait_for not in (tmp_path / "x.log").read_text():
            assert made.alive(), (tmp_path / "x.log").read_text()
        return made

    spawn.mark, spawn.record = mark, record
    yield spawn
    processes.stop(mark, record, grace_s=0)


def test_a_process_is_alive_until_it_is_stopped_and_its_record_goes_with_it(start):
    made = start(WAIT)
    assert made.alive()
    assert processes.ProcessRecord.load(start.record) == made
    assert os.getsid(made.pid) == made.pid  # so a Ctrl-C in our terminal does not reach it
    assert processes.stop(start.mark, start.record, grace_s=10) == 0
    assert not made.alive()
    assert not start.record.exists()


def test_one_that_ignores_being_asked_is_killed(start):
    start(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {WAIT}", "deaf")
    assert processes.stop(start.mark, start.record, grace_s=0.2) == 1
    assert processes.find_members(start.mark, None) == []


def test_children_in_other_sessions_and_under_other_names_are_stopped_too(start, tmp_path):
    # One child makes a session of its own; one forgets its environment; the leader dies without stopping them.
    program = f"""
import subprocess, sys, os
away = subprocess.Popen([sys.executable, "-c", {WAIT!r}], start_new_session=True)
bare = subprocess.Popen([sys.executable, "-c", {WAIT!r}], env={{}})
print("started", away.pid, bare.pid, flush=True)
{WAIT}
"""
    made = start(program, "started")
    children = [int(word) for word in (tmp_path / "x.log").read_text().split()[1:3]]
    os.kill(made.pid, 9)
    while made.alive():
        pass
    assert {process.pid for process in processes.find_members(start.mark, made)} == set(children)
    processes.stop(start.mark, start.record, grace_s=10)
    assert processes.find_members(start.mark, made) == []
    for pid in children:
        with pytest.raises(StackError):
            processes.start_ticks_of(pid)


def test_a_process_that_got_a_recorded_id_later_is_not_touched(start, tmp_path):
    bystander = subprocess.Popen([sys.executable, "-c", WAIT], start_new_session=True)
    try:
        made = start(WAIT)
        processes.stop(start.mark, start.record, grace_s=10)
        # Started in another tick of the clock than the one on record, which a fast machine would not do by itself.
        ticks = processes.start_ticks_of(bystander.pid) + 1
        stale = {**made.__dict__, "pid": bystander.pid, "start_ticks": ticks}
        start.record.write_text(json.dumps(stale))
        record = processes.ProcessRecord.load(start.record)
        assert not record.alive()
        assert processes.find_members(start.mark, record) == []
        processes.stop(start.mark, start.record, grace_s=0)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_record_of_an_earlier_boot_counts_for_nothing(start):
    made = start(WAIT)
    start.record.write_text(json.dumps({**made.__dict__, "boot_id": "another"}))
    assert not processes.ProcessRecord.load(start.record).alive()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_damaged_record_is_no_record_and_the_mark_still_finds_the_process(start, text):
    made = start(WAIT)
    start.record.write_text(text)
    assert processes.ProcessRecord.load(start.record) is None
    processes.stop(start.mark, start.record, grace_s=10)
    assert not made.alive()


def test_a_command_inside_the_stack_does_not_stop_itself(start, tmp_path):
    root = Path(__file__).parents[3]
    program = f"""
import sys, os
sys.path.insert(0, {str(root)!r})
from cluster.stack import processes
print("members", processes.find_members({start.mark!r}, None), flush=True)
"""
    start(program)
    log = tmp_path / "x.log"
    while "members" not in log.read_text():
        pass
    assert "members []" in log.read_text()


def test_a_program_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StackError, match="/nowhere"):
        processes.spawn(["/nowhere"], mark="m", record=tmp_path / "r", log=tmp_path / "l", env={}, cwd=tmp_path)


def test_the_guardian_waits_for_the_process_and_not_for_its_id(tmp_path):
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = processes.start_ticks_of(owner.pid)
    processes.wait_for_end(owner.pid, ticks + 1)  # an id that was given to another since: that owner has ended
    owner.stdin.close()
    processes.wait_for_end(owner.pid, ticks)
    owner.wait()
    processes.wait_for_end(owner.pid, ticks)
    with pytest.raises(StackError):
        processes.start_ticks_of(owner.pid)
