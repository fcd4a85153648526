"""Temporary folders of work: gone with the block, and gone after a kill once somebody looks."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from cluster.scratch import remove_abandoned, scratch_folder

HOLDER = """
import sys
from cluster.scratch import scratch_folder
with scratch_folder("work-") as folder:
    (folder / "voice.wav").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def tmp(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def age(folder):
    """Let a folder be an hour old."""
    os.utime(folder, (time.time() - 3600,) * 2)


def test_a_folder_ends_with_its_block_and_with_an_error(tmp):
    def fail(folder):
        (folder / "voice.wav").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), scratch_folder("work-") as folder:
        fail(folder)
    assert list(tmp.iterdir()) == []


def test_only_what_a_killed_process_left_is_removed(tmp):
    env = {**os.environ, "TMPDIR": str(tmp), "PYTHONPATH": os.pathsep.join(sys.path)}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        subprocess.Popen([sys.executable, "-c", HOLDER], env=env, text=True, **streams) as killed,
        scratch_folder("work-") as ours,
        scratch_folder("other-") as other,
    ):
        left = tmp / killed.stdout.readline().strip()
        for folder in (left, ours, other):
            age(folder)
        assert remove_abandoned("work-") == 0  # its process lives
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        (tmp / "work-of-others").mkdir()
        age(tmp / "work-of-others")
        assert remove_abandoned("work-") == 1
        assert not left.exists()
        assert ours.exists()
        assert other.exists()
        assert (tmp / "work-of-others").exists()


def test_a_folder_that_is_just_being_made_is_left_alone(tmp):
    (tmp / "work-new").mkdir()
    (tmp / "work-new" / ".owner").touch()
    assert remove_abandoned("work-") == 0
