"""`prepare` killed at any moment: the next call goes on and makes the capture it would have been."""

import signal
import subprocess
import sys

import pytest

from m2dao.capture.dataset import Capture
from m2dao.capture.faces.journal import ROW_BYTES
from m2dao.capture.faces.tracker import FaceTracker
from m2dao.capture.prepare import prepare
from m2dao.capture.regions.segment import RegionSegmenter
from m2dao.capture.writer import CaptureWriter
from tests.support.recordings import write_recording

SIZE = 128
ENOUGH = 20  # frames done in a stage before the kill

DYING = """
import os, signal, sys
from m2dao.capture.{module} import {owner}
from m2dao.capture.prepare import prepare

whole, calls = {owner}.{method}, []

def dying(self, *args, **options):
    calls.append(1)
    if len(calls) > {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, *args, **options)

{owner}.{method} = dying
prepare(sys.argv[1], sys.argv[2], size={size})
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    video = write_recording(folder / "anna.mp4", seconds=5.2)
    return video, prepare(video, folder / "whole", size=SIZE).content_sha256


def faces_found(folder):
    return sum(path.stat().st_size for path in folder.glob(".capture.partial-*/notes/faces-*.f32")) // ROW_BYTES


def frames_stored(folder):
    return len(list(folder.glob(".capture.partial-*/masks/*.png")))


@pytest.mark.parametrize(
    ("module", "owner", "method", "number"),
    [
        ("faces.tracker", "FaceTracker", "track", ENOUGH),
        ("regions.segment", "RegionSegmenter", "segment", ENOUGH),
        ("writer", "CaptureWriter", "add_sound", 0),  # poses are solved
    ],
)
def test_a_killed_call_is_gone_on_with_and_the_capture_is_the_same(
    recording, tmp_path, monkeypatch, module, owner, method, number
):
    video, whole = recording
    program = DYING.format(module=module, owner=owner, method=method, number=number, size=SIZE)
    killed = subprocess.run(
        [sys.executable, "-c", program, video, tmp_path / "capture"], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "capture").exists()
    num_found, num_stored = faces_found(tmp_path), frames_stored(tmp_path)
    assert num_found >= ENOUGH - 2
    journal = next(tmp_path.glob(".capture.partial-*/notes/faces-0.f32"))
    with journal.open("ab") as file:
        file.write(b"torn")  # a row that was being written
    damaged = next(tmp_path.glob(".capture.partial-*/masks/000003.png"), None)
    if damaged:
        damaged.write_bytes(b"")

    calls = {"track": 0, "segment": 0}
    for maker, name in ((FaceTracker, "track"), (RegionSegmenter, "segment")):
        whole_method = getattr(maker, name)

        def counted(self, *args, name=name, whole_method=whole_method):
            calls[name] += 1
            return whole_method(self, *args)

        monkeypatch.setattr(maker, name, counted)
    assert prepare(video, tmp_path / "capture", size=SIZE).content_sha256 == whole
    num_frames = Capture.open(tmp_path / "capture").num_frames
    assert calls["track"] == num_frames - num_found
    assert calls["segment"] == num_frames - num_stored + (damaged is not None)
    assert [path.name for path in tmp_path.iterdir()] == ["capture"]
    assert not (tmp_path / "capture" / "notes").exists()


def test_what_was_left_of_another_recording_is_removed_and_of_the_same_one_kept(tmp_path):
    for name in ("same", "other"):
        (tmp_path / f".capture.partial-{name}").mkdir()
    with CaptureWriter(tmp_path / "capture", key="same") as writer:
        assert writer.folder.name == ".capture.partial-same"
        assert not (tmp_path / ".capture.partial-other").exists()
        with CaptureWriter(tmp_path / "capture", key="same") as second:  # while the first is at work
            assert second.folder != writer.folder
    assert not list(tmp_path.iterdir())


def test_a_link_where_the_unfinished_folder_would_be_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".capture.partial-same").symlink_to(tmp_path / "elsewhere")
    with CaptureWriter(tmp_path / "capture", key="same") as writer:
        assert not writer.folder.is_symlink()
        assert not list((tmp_path / "elsewhere").iterdir())


def test_a_finished_writer_removes_nobody_elses_folder(tmp_path):
    with CaptureWriter(tmp_path / "capture", key="same") as writer:
        writer.finish({})
        again = tmp_path / ".capture.partial-same"  # of a process that was faster
        again.mkdir()
    assert again.is_dir()
    assert (tmp_path / "capture").is_dir()
