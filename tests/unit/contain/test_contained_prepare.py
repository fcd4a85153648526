"""A tenant's recording is prepared in a contained process, which reaches nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m2dao.capture.dataset import Capture
from m2dao.errors import CaptureCorrupt, MediaError
from m2dao.kernels import compiled
from tests.support.recordings import write_recording
from train_jobs import recordings
from train_jobs.recordings import prepare_contained


@pytest.fixture
def fit_folder(tmp_path) -> Path:
    (tmp_path / "fit").mkdir(mode=0o700)
    (tmp_path / "fit" / "steps").mkdir()
    (tmp_path / "fit" / "steps" / "secret").write_text("of a fit")
    return tmp_path / "fit"


def prepare_inside(fit_folder: Path, stages: list[str] | None = None, size: int = 64) -> Path:
    capture_dir = fit_folder / "prepared" / "capture"
    prepare_contained(
        next(fit_folder.glob("recording.*")),
        capture_dir,
        size=size,
        num_threads=1,
        allow_uncontained=False,
        on_progress=lambda stage, share: None if stages is None else stages.append(stage),
    )
    return capture_dir


def test_a_capture_is_made_inside(fit_folder):
    write_recording(fit_folder / "recording.mp4", seconds=5.0)
    stages: list[str] = []
    capture = Capture.open(prepare_inside(fit_folder, stages))
    assert capture.num_frames == 125
    assert {"reading the sound", "following the face", "cutting out regions"} <= set(stages)


def test_a_recording_that_shows_nobody_is_refused_in_its_own_words(fit_folder):
    write_recording(fit_folder / "recording.mp4", seconds=5.0, change=lambda frame, seconds: frame * 0)
    with pytest.raises(MediaError, match="a person who moves and speaks"):
        prepare_inside(fit_folder)


def test_what_takes_over_a_preparation_reaches_nothing(fit_folder, tmp_path, monkeypatch):
    (fit_folder / "recording.mp4").write_bytes(b"crafted")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "recording.mp4").write_bytes(b"of another tenant")
    monkeypatch.setenv("M2DAO_S3_SECRET_KEY", "hunter2")
    monkeypatch.setattr(recordings, "_WORKER", "tests.unit.contain.probes")
    found = json.loads((prepare_inside(fit_folder) / "found.json").read_text())
    assert found["recording"] == "done"
    assert found["environment"] == "clean"
    assert "done" not in (found["steps"], found["neighbour"], found["socket"])


def test_a_preparation_sees_machine_code_that_is_kept_outside_the_packages(fit_folder, tmp_path, monkeypatch):
    (fit_folder / "recording.mp4").write_bytes(b"crafted")
    (tmp_path / "kept" / "capture_12ab").mkdir(parents=True)
    monkeypatch.setattr(compiled, "machine_code_folder", lambda: tmp_path / "kept")
    monkeypatch.setattr(recordings, "_WORKER", "tests.unit.contain.probes")
    found = json.loads((prepare_inside(fit_folder) / "found.json").read_text())
    assert found["machine code"] == "capture_12ab"


def test_a_capture_that_leads_out_of_its_folder_is_refused(fit_folder, monkeypatch):
    (fit_folder / "recording.mp4").write_bytes(b"crafted")
    monkeypatch.setattr(recordings, "_WORKER", "tests.unit.contain.probes")
    with pytest.raises(CaptureCorrupt, match="a link"):
        prepare_inside(fit_folder, size=666)
