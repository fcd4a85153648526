"""The node's disk cache: fetched once, never half, never removed while it is read."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from m2dao.errors import ConfigError, ServiceError, StorageUnavailable
from m2dao.files import locked
from serve_apps.identities.node_cache import NodeCache

WAIT_S = 20


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def write(num_bytes: int = 10):
    def fetch(dest: Path) -> None:
        dest.mkdir()
        (dest / "data").write_bytes(b"x" * num_bytes)

    return fetch


def never(dest: Path) -> None:
    raise AssertionError("fetched again")


def test_a_folder_is_fetched_once_and_shared(tmp_path):
    with NodeCache(tmp_path, byte_budget=100).folder(sha("a"), write()) as folder:
        assert (folder / "data").read_bytes() == b"x" * 10
    with NodeCache(tmp_path, byte_budget=100).folder(sha("a"), never) as again:  # another replica of the node
        assert again == folder


def test_nobody_else_can_read_what_is_kept(tmp_path):
    root = tmp_path / "cache"
    root.mkdir(mode=0o755)

    def fetch(dest: Path) -> None:
        (dest / "inner").mkdir(parents=True)
        (dest / "inner" / "face").write_bytes(b"x")

    with NodeCache(root, byte_budget=100).folder(sha("a"), fetch) as folder:
        modes = {path.name: path.stat().st_mode & 0o777 for path in (root, folder, *folder.rglob("*"))}
    assert modes == {"cache": 0o700, sha("a"): 0o700, "inner": 0o700, "face": 0o600}


def test_side_by_side_readers_cause_one_fetch(tmp_path):
    fetches = []
    gate = threading.Barrier(4, timeout=WAIT_S)

    def fetch(dest: Path) -> None:
        fetches.append(dest)
        write()(dest)

    def read() -> None:
        gate.wait()
        with NodeCache(tmp_path, byte_budget=100).folder(sha("a"), fetch) as folder:
            assert (folder / "data").exists()

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(read) for _ in range(4)]:
            each.result(WAIT_S)
    assert len(fetches) == 1


def test_a_fetch_that_fails_leaves_nothing(tmp_path):
    cache = NodeCache(tmp_path, byte_budget=100)

    def fetch(dest: Path) -> None:
        write()(dest)
        raise StorageUnavailable("bucket")

    with pytest.raises(StorageUnavailable), cache.folder(sha("a"), fetch):
        pass
    assert cache.held() == {}
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_the_left_overs_of_a_killed_fetch_are_replaced(tmp_path):
    partial = tmp_path / f"{sha('a')}.partial"
    partial.mkdir()
    (partial / "half").write_bytes(b"x")
    with NodeCache(tmp_path, byte_budget=100).folder(sha("a"), write()) as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["data"]


def test_the_least_recently_used_folder_makes_room(tmp_path):
    cache = NodeCache(tmp_path, byte_budget=25)
    for age, name in enumerate(("a", "b")):
        with cache.folder(sha(name), write()) as folder:
            os.utime(folder, (age, age))
    with cache.folder(sha("a"), never):  # used last, though fetched first
        pass
    with cache.folder(sha("c"), write()):
        pass
    assert set(cache.held()) == {sha("a"), sha("c")}


def test_a_folder_that_is_read_is_not_removed(tmp_path):
    cache = NodeCache(tmp_path, byte_budget=15)
    with cache.folder(sha("a"), write()) as folder:
        with NodeCache(tmp_path, byte_budget=15).folder(sha("b"), write()):
            pass
        assert (folder / "data").exists()
        assert cache.remove(sha("a")) is False
    assert cache.remove(sha("a")) is True
    assert not folder.exists()


def test_removing_and_reading_at_once_never_shows_a_missing_folder(tmp_path):
    cache = NodeCache(tmp_path, byte_budget=100)
    stop = threading.Event()

    def remove() -> None:
        while not stop.is_set():
            cache.remove(sha("a"))

    with ThreadPoolExecutor(3) as pool:
        removing = pool.submit(remove)
        try:

            def read() -> None:
                for _ in range(100):
                    with cache.folder(sha("a"), write()) as folder:
                        assert (folder / "data").read_bytes() == b"x" * 10

            for each in [pool.submit(read) for _ in range(2)]:
                each.result(WAIT_S)
        finally:
            stop.set()
        removing.result(WAIT_S)


def test_names_are_hashes_and_nothing_else(tmp_path):
    cache = NodeCache(tmp_path, byte_budget=100)
    for name in ("../up", "a" * 63, "A" * 64, ""):
        with pytest.raises(ServiceError, match="64 hex digits"), cache.folder(name, write()):
            pass


def test_a_budget_must_be_positive(tmp_path):
    with pytest.raises(ConfigError):
        NodeCache(tmp_path, byte_budget=0)


def test_what_a_killed_process_fetched_half_of_is_removed_unless_somebody_is_at_it(tmp_path):
    dead, busy = "a" * 64, "b" * 64
    for name in (f"{dead}.partial", f".{dead}.partial.x1", f"{busy}.partial", dead):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"a face")
    with locked(tmp_path / f"{busy}.lock"):
        NodeCache(tmp_path, byte_budget=1000)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {dead, f"{busy}.partial"}
