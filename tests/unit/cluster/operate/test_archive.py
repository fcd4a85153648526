"""A backup is whole or not there, and a damaged one is refused by the name of the file."""

from __future__ import annotations

import json
import stat

import pytest

from cluster.operate.backups.archive import Manifest, hashes_of, new_folder, read_manifest, write_manifest
from m2dao.errors import AlreadyExists, InputError, ObjectCorrupt


@pytest.fixture
def backup(tmp_path):
    folder = tmp_path / "monday"
    with new_folder(folder) as partial:
        (partial / "objects").mkdir()
        (partial / "state.jsonl").write_text("{}\n")
        (partial / "objects" / "ab").write_bytes(b"a face")
        files = hashes_of(partial)
        manifest = Manifest(begun_s=1.0, last_erasure=3, erasures_key_id="k", pepper="p", has_objects=True, files=files)
        write_manifest(partial, manifest)
    return folder


def test_a_whole_backup_is_read_and_only_its_owner_may_look_into_it(backup):
    assert read_manifest(backup).last_erasure == 3
    assert stat.S_IMODE(backup.stat().st_mode) == 0o700


def test_what_fails_half_way_leaves_nothing(tmp_path):
    def fail() -> None:
        with new_folder(tmp_path / "monday") as partial:
            (partial / "state.jsonl").write_text("{}\n")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_backup_that_is_there_is_not_replaced(backup):
    with pytest.raises(AlreadyExists), new_folder(backup):
        pass


DAMAGES = {
    "altered": lambda folder: (folder / "objects" / "ab").write_bytes(b"a f\x00ce"),
    "missing": lambda folder: (folder / "objects" / "ab").unlink(),
    "one too many": lambda folder: (folder / "objects" / "cd").write_bytes(b"x"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_refused_by_the_name_of_the_file(backup, damage):
    DAMAGES[damage](backup)
    with pytest.raises(ObjectCorrupt, match=r"objects/(ab|cd)"):
        read_manifest(backup)


def test_what_is_no_backup_of_this_release_is_refused(backup, tmp_path):
    with pytest.raises(InputError, match="a backup"):
        read_manifest(tmp_path)
    path = backup / "backup.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(InputError, match="the release that made it"):
        read_manifest(backup)
    path.write_text("{")
    with pytest.raises(ObjectCorrupt, match="readable JSON"):
        read_manifest(backup)
