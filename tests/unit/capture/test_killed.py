"""`prepare` killed at any moment: the next call goes on, and the capture is the one it would have been."""

import signal
import subprocess
import sys
import time

import pytest

from m2dao.capture.dataset import Capture
from m2dao.capture.faces import FaceTracker
from m2dao.capture.prepare import prepare
from m2dao.capture.regions import RegionSegmenter
from m2dao.capture.writer import CaptureWriter
from tests.support.recordings import write_recording

SIZE = 128
ENOUGH = 20  # frames done in a stage before the kill


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    video = write_recording(folder / "anna.mp4", seconds=5.2)
    return video, prepare(video, folder / "whole", size=SIZE).content_sha256


def faces_found(folder):
    return sum(path.stat().st_size for path in folder.glob(".capture.partial-*/notes/faces-*.f32")) // (4 * 1493)


def frames_stored(folder):
    return len(list(folder.glob(".capture.partial-*/masks/*.png")))


@pytest.mark.parametrize(("done", "others"), [(faces_found, "segment"), (frames_stored, "track")])
def test_a_killed_call_is_gone_on_with_and_the_capture_is_the_same(recording, tmp_path, monkeypatch, done, others):
    video, whole = recording
    command = [
        sys.executable,
        "-m",
        "m2dao.cli",
        "prepare",
        str(video),
        "--out",
        str(tmp_path / "capture"),
        "--size",
        str(SIZE),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while done(tmp_path) < ENOUGH and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    num_kept = done(tmp_path)
    assert num_kept >= ENOUGH and not (tmp_path / "capture").exists()

    calls = {"track": 0, "segment": 0}
    for owner, name in ((FaceTracker, "track"), (RegionSegmenter, "segment")):
        whole_method = getattr(owner, name)

        def counted(self, *args, name=name, whole_method=whole_method):
            calls[name] += 1
            return whole_method(self, *args)

        monkeypatch.setattr(owner, name, counted)
    assert prepare(video, tmp_path / "capture", size=SIZE).content_sha256 == whole
    num_frames = Capture.open(tmp_path / "capture").num_frames
    made_again = {faces_found: "track", frames_stored: "segment"}[done]
    assert calls[made_again] == num_frames - num_kept
    assert calls[others] == (
        num_frames if others == "segment" else 0
    )  # what comes later is all to do, what came before none
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
