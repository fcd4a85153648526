"""Files and folders are whole or not there; a lock keeps others out while its holder lives."""

import errno
import fcntl
import hashlib
import math
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest

from m2dao.files import file_sha256, locked, put_in_place, whole_file, whole_folder


class Stopped(Exception):
    pass


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_under_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("before")
    with whole_file(path) as partial:
        partial.write_text("after")
        assert path.read_text() == "before"
        assert partial.suffix == path.suffix, "writers look at the suffix"
    assert path.read_text() == "after"
    assert names(tmp_path) == ["a.json"]


def test_the_longest_name_is_as_good_as_any(tmp_path):
    for name in ("a" * 251 + ".mp4", "\u00fc" * 127, "a" * 255):
        with whole_file(tmp_path / name) as partial:
            partial.write_text("new")
            assert not name.endswith(".mp4") or partial.suffix == ".mp4"
        assert names(tmp_path) == [name]
        (tmp_path / name).unlink()
        for _ in range(2):  # the second moves the first aside
            with whole_folder(tmp_path / name) as partial:
                (partial / "file").touch()
        assert names(tmp_path) == [name]
        (tmp_path / name / "file").unlink()
        (tmp_path / name).rmdir()


def test_an_error_leaves_the_file_of_before_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("before")

    def write_half():
        with whole_file(path) as partial:
            partial.write_text("half")
            raise Stopped

    with pytest.raises(Stopped):
        write_half()
    assert path.read_text() == "before"
    assert names(tmp_path) == ["a.json"]


def test_a_killed_writer_leaves_the_file_of_before(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("before")
    program = (
        "import os, signal; from pathlib import Path; from m2dao.files import whole_file\n"
        f"with whole_file(Path({str(path)!r})) as partial:\n"
        "    partial.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == -signal.SIGKILL
    assert path.read_text() == "before"
    assert all(name == "a.json" or (name.startswith(".") and ".partial" in name) for name in names(tmp_path))


def test_a_folder_takes_the_place_of_the_one_before_as_a_whole(tmp_path):
    folder = tmp_path / "identity"
    for content in ("first", "second"):
        with whole_folder(folder) as partial:
            (partial / content).write_text(content)
        assert names(folder) == [content]
    assert names(tmp_path) == ["identity"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_may_not_be_replaced_stays(tmp_path):
    folder = tmp_path / "identity"
    folder.mkdir()
    (folder / "mine").write_text("")
    with pytest.raises(OSError, match="identity"), whole_folder(folder, replace=False) as partial:
        (partial / "other").write_text("")
    assert names(folder) == ["mine"]
    assert names(tmp_path) == ["identity"]


def test_a_folder_is_put_in_the_place_of_an_empty_one(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "a").write_text("")
    (tmp_path / "there").mkdir()
    put_in_place(tmp_path / "made", tmp_path / "there")
    assert names(tmp_path) == ["there"]
    assert names(tmp_path / "there") == ["a"]


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_lock_keeps_others_out_and_readers_share_it(tmp_path):
    path = tmp_path / "lock"
    with locked(path), pytest.raises(BlockingIOError), locked(path, wait_s=0):
        pass
    with (
        locked(path, shared=True),
        locked(path, shared=True, wait_s=0),
        pytest.raises(BlockingIOError),
        locked(path, wait_s=0),
    ):
        pass
    with locked(path, wait_s=0):
        pass


def test_who_waits_for_a_lock_gets_it_when_it_is_given_back(tmp_path):
    path, got = tmp_path / "lock", threading.Event()

    def wait():
        with locked(path, wait_s=30):
            got.set()

    waiting = threading.Thread(target=wait)
    with locked(path):
        waiting.start()
        assert not got.is_set()
    waiting.join(30)
    assert got.is_set()


def test_a_lock_on_a_file_that_was_removed_protects_nothing_and_is_taken_anew(tmp_path):
    path, inside = tmp_path / "lock", threading.Event()

    def wait():
        with locked(path):
            inside.set()
            assert os.stat(path).st_nlink == 1

    waiting = threading.Thread(target=wait)
    with locked(path):
        waiting.start()
        os.unlink(path)
    waiting.join(30)
    assert inside.is_set()
    assert path.exists(), "whoever waited made the file anew and holds that one"


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path):
    path = tmp_path / "lock"
    program = (
        "import sys; from pathlib import Path; from m2dao.files import locked\n"
        f"with locked(Path({str(path)!r})):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError), locked(path, wait_s=0):
            pass
        holder.kill()
        holder.wait(30)
        with locked(path, wait_s=5):
            pass


@pytest.mark.parametrize("wait_s", [0, 1, math.inf])
def test_where_there_are_no_locks_only_those_that_are_optional_are_done_without(tmp_path, monkeypatch, wait_s):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with locked(tmp_path / "lock", optional=True, wait_s=wait_s) as held:
        assert not held
    with pytest.raises(OSError, match="No locks"), locked(tmp_path / "lock", wait_s=wait_s):
        pass


def test_a_file_is_hashed_without_being_held_in_memory(tmp_path):
    """Renders hash their video, several at a time."""
    with (tmp_path / "video.mp4").open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    try:
        digest = file_sha256(tmp_path / "video.mp4")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert digest == hashlib.sha256(bytes(64 << 20)).hexdigest()
    assert most < 4 << 20
