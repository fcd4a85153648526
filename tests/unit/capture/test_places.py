"""Where captures are made: shared folders without locks, full disks, any name."""

import errno
import fcntl
import os

import numpy as np
import pytest

from m2dao.capture.dataset import Capture
from m2dao.capture.prepare import prepare
from m2dao.capture.writer import CaptureWriter
from m2dao.cli import main
from m2dao.errors import M2daoError
from tests.support.recordings import write_recording

# a leading dash, a formula, a pattern, a byte that is no UTF-8, and as long as a name may be with its suffix
ODD_NAME = "-anna take_$1_$2 [1]* " + os.fsdecode(b"caf\xe9") + "\u00fc" * 112


def nfs_flock(descriptor, operation, whole=fcntl.flock):
    """What NFS does: an exclusive lock needs a descriptor that can be written to."""
    read_only = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    if operation & fcntl.LOCK_EX and read_only:
        raise OSError(errno.EBADF, "Bad file descriptor")
    whole(descriptor, operation)


def no_flock(number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    return flock


def test_on_nfs_a_capture_is_made_under_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", nfs_flock)
    with CaptureWriter(tmp_path / "capture", key="same") as first:
        assert first.folder.name == ".capture.partial-same"
        with CaptureWriter(tmp_path / "capture", key="same") as second:
            assert second.folder != first.folder
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_where_there_are_no_locks_everybody_works_in_a_folder_of_their_own(tmp_path, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", no_flock(number))
    with CaptureWriter(tmp_path / "capture", key="same") as first, CaptureWriter(tmp_path / "capture") as second:
        assert first.folder != second.folder
        assert first.folder.is_dir()
        first.finish({})
    assert [path.name for path in tmp_path.iterdir()] == ["capture"]


def test_a_place_that_cannot_be_locked_for_another_reason_is_refused_and_left_clean(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_flock(errno.EIO))
    with pytest.raises(M2daoError, match="a place that can be written"), CaptureWriter(tmp_path / "capture", key="k"):
        pass
    assert not (tmp_path / "capture").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a file without room")
def test_a_disk_that_is_full_for_the_last_line_is_said_and_leaves_nothing(tmp_path):
    notes = tmp_path / ".capture.partial-same" / "notes"
    notes.mkdir(parents=True)
    (notes / "stored").symlink_to("/dev/full")
    with (
        pytest.raises(M2daoError, match=r"plate\.png: expected room.*No space left"),
        CaptureWriter(tmp_path / "capture", key="same") as writer,
    ):
        writer.add_bytes("plate.png", b"1234")
    assert not list(tmp_path.iterdir())


def test_names_of_recordings_and_captures_never_matter(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    video = write_recording(tmp_path / "plain.mp4", seconds=5.0).rename(tmp_path / f"{ODD_NAME}.mp4")
    out = tmp_path / "made" / ODD_NAME
    assert main(["prepare", video.name, "--out", str(out), "--size", "64"]) == 0
    assert os.fsencode(out) in capfdbinary.readouterr().out
    capture = Capture.open(out)
    assert capture.manifest["source"]["name"] == video.name
    assert capture.frame(3).shape == (64, 64, 3)
    assert np.isfinite(capture.viewmats).all()
    assert os.listdir(out.parent) == [ODD_NAME]


def test_two_long_names_that_begin_alike_do_not_share_an_unfinished_folder(tmp_path):
    with (
        CaptureWriter(tmp_path / ("a" * 250 + "1"), key="same") as one,
        CaptureWriter(tmp_path / ("a" * 250 + "2"), key="same") as other,
    ):
        assert one.folder.is_dir()
        assert one.folder != other.folder
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_hold_the_capture_is_refused_before_the_recording_is_read(tmp_path, capsys):
    assert main(["prepare", str(tmp_path / "none.mp4"), "--out", str(tmp_path / ("x" * 256))]) == 2
    assert "names of at most 255 bytes" in capsys.readouterr().err
    assert main(["prepare", str(tmp_path / "none.mp4"), "--out", "/proc/capture"]) == 2
    assert "leave to write into /proc" in capsys.readouterr().err


def test_prepare_says_where_it_cannot_write(tmp_path):
    video = write_recording(tmp_path / "a.mp4", seconds=5.0)
    with pytest.raises(M2daoError, match="a place that can be written"):
        prepare(video, "/proc/capture", size=64)
