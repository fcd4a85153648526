"""What cannot be written is refused by name, and asking leaves nothing behind."""

import json
import os
from pathlib import Path

import pytest

from m2dao.cli import main
from m2dao.commands.outputs import check_file, check_folder
from m2dao.errors import InputError
from m2dao.formats import IDENTITY


def test_a_file_may_be_new_replaced_or_in_folders_yet_to_be_made(tmp_path):
    (tmp_path / "old.mp4").write_bytes(b"old")
    for path in (tmp_path / "new.mp4", tmp_path / "old.mp4", tmp_path / "a" / "b" / "new.MP4"):
        check_file(path, suffix=".mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]


@pytest.mark.parametrize("name", ["video", "video.avi", "mp4"])
def test_a_file_of_another_kind_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"ends in \.mp4"):
        check_file(tmp_path / name, suffix=".mp4")


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="expected a file; got a folder"):
        check_file(tmp_path / "folder.mp4", suffix=".mp4")
    with pytest.raises(InputError, match="expected a folder; got a file"):
        check_folder(tmp_path / "file")


def test_nothing_can_be_made_below_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="leave to write into"):
        check_file(tmp_path / "file" / "video.mp4", suffix=".mp4")
    with pytest.raises(InputError, match="leave to write into"):
        check_folder(tmp_path / "file" / "folder")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that nobody may write into")
def test_a_place_that_nobody_may_write_into_is_refused():
    with pytest.raises(InputError, match="leave to write into /proc"):
        check_file(Path("/proc/video.mp4"), suffix=".mp4")
    with pytest.raises(InputError, match="leave to write into /proc"):
        check_folder(Path("/proc/self/videos"))


@pytest.mark.parametrize("name", ["\u00fc" * 128, "a" * 252 + ".mp4"])
def test_a_name_that_is_too_long_is_refused_by_its_length(tmp_path, name):
    with pytest.raises(InputError, match="names of at most 255 bytes; got one of 256"):
        check_folder(tmp_path / name)
    with pytest.raises(InputError, match="names of at most 255 bytes; got one of 256"):
        check_file(tmp_path / name[:128] / name, suffix=Path(name).suffix)


def test_a_folder_may_be_new_or_in_use_unless_it_must_be_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_bytes(b"")
    for name in ("new", "empty", "used", "deep/down"):
        check_folder(tmp_path / name)
    for name in ("new", "empty"):
        check_folder(tmp_path / name, new=True)
    with pytest.raises(InputError, match="empty or new folder"):
        check_folder(tmp_path / "used", new=True)


def test_a_folder_that_will_be_replaced_may_hold_nothing_else(tmp_path):
    (tmp_path / "identity").mkdir()
    (tmp_path / "identity" / "identity.json").write_bytes(b"{}")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "anna.jpg").write_bytes(b"")
    for name in ("identity", "new"):
        check_folder(tmp_path / name, replaces=IDENTITY)
    with pytest.raises(InputError, match=r"an empty folder or one with identity\.json; got other files"):
        check_folder(tmp_path / "photos", replaces=IDENTITY)


@pytest.mark.parametrize(
    "command",
    [
        "fit nothing --out OUT",
        "universal nothing nowhere --out OUT",
        "evaluate nothing nowhere --out OUT/file",
        "presenter --out OUT/file",
        "bench voices --identity a b --audio c.wav --out OUT/file",
    ],
)
def test_no_command_begins_before_it_knows_that_it_can_write(tmp_path, capsys, command):
    (tmp_path / "file").write_bytes(b"mine")
    assert main([*command.replace("OUT", str(tmp_path)).split(), "--json"]) == 2
    assert str(tmp_path) in json.loads(capsys.readouterr().out)["detail"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
