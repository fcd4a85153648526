"""The comparing half of benchmarks/compare_commits.py; the other half only runs commands."""

import json
import math

import cv2
import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.compare_commits import Plan, compare_runs, verdict_on
from benchmarks.differences import compare
from m2dao.media.mux import VideoWriter

PLAN = Plan(recipes=("m2dao",))


def answer(folder, stage, figures):
    path = folder / "answers" / f"{stage}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"seconds": np.random.default_rng().random(), "answer": figures}))


def store_picture(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def store_video(path, pictures):
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, width=64, height=64) as writer:
        for picture in pictures:
            writer.write(picture)


@pytest.fixture
def frame():
    return np.full((64, 64, 4), (90, 100, 110, 255), np.uint8)


@pytest.fixture
def runs(tmp_path, frame):
    """Two runs that made the same, in different times."""
    for run in (tmp_path / "old", tmp_path / "new"):
        for stage in PLAN.stages(run):
            figures = {"psnr_db": 36.0} if stage.endswith(("paper", "portrait")) else {}
            answer(run, stage, {"num_frames": 2, "elapsed_s": np.random.default_rng().random(), **figures})
        for index in range(2):
            store_picture(run / f"m2dao/frames/{index:06d}.png", frame)
        store_video(run / "m2dao/video/video.mp4", [frame[..., :3]] * 2)
        (run / "capture").mkdir()
        (run / "capture/audio.wav").write_bytes(bytes(1000))
        (run / "m2dao/fit/identity").mkdir(parents=True)
        save_file({"means": np.zeros((4, 3), np.float32)}, run / "m2dao/fit/identity/gaussians.safetensors")
    return tmp_path / "old", tmp_path / "new"


def changed_stages(runs):
    return {row.stage: row for row in compare_runs(*runs, PLAN) if not row.equal}


def test_runs_that_differ_in_nothing_but_times_are_equal(runs):
    assert changed_stages(runs) == {}
    assert verdict_on(compare_runs(*runs, PLAN)).startswith("EQUAL")
    assert all(row.found.old_sha256 == row.found.new_sha256 for row in compare_runs(*runs, PLAN))


def test_a_flipped_bit_is_noticed(runs):
    path = runs[1] / "capture/audio.wav"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    row = changed_stages(runs).pop("capture")
    assert list(row.found.differences) == ["capture/audio.wav"]
    assert row.found.old_sha256 != row.found.new_sha256


@pytest.mark.parametrize("side", [0, 1])
def test_a_file_that_only_one_run_has_is_noticed(runs, side):
    (runs[side] / "capture/more.json").write_text("{}")
    (difference,) = changed_stages(runs)["capture"].found.differences.values()
    assert difference.text == f"only in {('old', 'new')[side]}"


def test_a_changed_pixel_is_noticed_and_measured_in_grey_levels(runs, frame):
    frame[5, 7, 1] += 1
    store_picture(runs[1] / "m2dao/frames/000001.png", frame)
    row = changed_stages(runs).pop("m2dao/frames")
    assert row.found.grey_levels == 1
    assert row.within_limits
    frame[5, 7, 1] += 1
    store_picture(runs[1] / "m2dao/frames/000001.png", frame)
    row = changed_stages(runs).pop("m2dao/frames")
    assert row.found.grey_levels == 2
    assert not row.within_limits
    assert verdict_on([row]).startswith("DIFFERENT, beyond")


def test_the_colour_of_what_cannot_be_seen_counts_as_a_difference_of_no_grey_levels(runs, frame):
    for run, grey in zip(runs, (0, 200), strict=True):
        store_picture(run / "m2dao/frames/000000.png", np.full_like(frame, (grey, grey, grey, 0)))
    row = changed_stages(runs).pop("m2dao/frames")
    assert row.found.grey_levels == 0
    assert row.within_limits


def test_a_changed_frame_of_a_video_is_noticed(runs, frame):
    white = np.full_like(frame[..., :3], 255)
    store_video(runs[1] / "m2dao/video/video.mp4", [frame[..., :3], white])
    assert changed_stages(runs).pop("m2dao/video").found.grey_levels > 100
    store_video(runs[1] / "m2dao/video/video.mp4", [frame[..., :3]])
    (difference,) = changed_stages(runs)["m2dao/video"].found.differences.values()
    assert difference.text == "one of them ends after 1 pictures"
    assert difference.grey_levels is None


def test_a_changed_tensor_is_named_with_how_far_it_went(runs):
    means = np.zeros((4, 3), np.float32)
    means[2, 1] = 0.25
    save_file({"means": means}, runs[1] / "m2dao/fit/identity/gaussians.safetensors")
    (difference,) = changed_stages(runs)["m2dao/fit"].found.differences.values()
    assert difference.text == "means by up to 0.25"


@pytest.mark.parametrize(("psnr_db", "within"), [(36.04, True), (35.94, False), (math.nan, False)])
def test_psnr_is_compared_with_its_limit(runs, psnr_db, within):
    measured = {} if math.isnan(psnr_db) else {"psnr_db": psnr_db}
    answer(runs[1], "m2dao/paper", {"num_frames": 2, **measured})
    row = changed_stages(runs)["m2dao/paper"]
    assert row.psnr_db == pytest.approx((36.0, psnr_db), nan_ok=True)
    assert row.within_limits == within


def test_a_changed_field_of_a_document_is_named(tmp_path):
    for side, loss in (("old", 0.5), ("new", 0.25)):
        (tmp_path / side).mkdir()
        lines = [{"step": 25, "loss": 1.0, "seconds": loss}, {"step": 50, "loss": loss, "seconds": 1.0}]
        (tmp_path / side / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        (tmp_path / side / "quality.json").write_text(json.dumps({"sound": {"loss": loss}, "seconds": loss}))
    found = compare(tmp_path / "old", tmp_path / "new", ["metrics.jsonl", "quality.json"]).differences
    texts = {name: difference.text for name, difference in found.items()}
    assert texts == {"metrics.jsonl": "1.loss 0.5 -> 0.25", "quality.json": "sound.loss 0.5 -> 0.25"}


def test_every_stage_but_the_first_ones_starts_from_the_run_that_is_given(tmp_path):
    stages = PLAN.stages(tmp_path)
    reading = {name for name, command in stages.items() if any(str(tmp_path) in str(word) for word in command)}
    assert set(stages) - reading == {"recording", "speech"}
