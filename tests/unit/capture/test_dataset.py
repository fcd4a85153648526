"""Capture folders: complete or absent, and every altered byte is noticed."""

import json
import multiprocessing
import os

import numpy as np
import pytest

from m2dao.audio.features import feature_version
from m2dao.capture.dataset import Capture
from m2dao.capture.writer import CaptureWriter
from m2dao.errors import CaptureCorrupt, InputError
from m2dao.media.audio import as_16_bit

T, S = 6, 32


def fill(writer, seed=0):
    """Write everything but the manifest; returns what was written."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, 64, (T, S, S, 4), dtype=np.uint8)
    frames = np.repeat(np.repeat(rng.integers(0, 255, (T, 4, 4, 3), dtype=np.uint8), 8, 1), 8, 2)
    tracks = {
        "viewmats": np.tile(np.eye(4, dtype=np.float32), (T, 1, 1)),
        "K": np.eye(3, dtype=np.float32),
        "landmarks": rng.random((T, 478, 3), np.float32),
        "canonical_landmarks": rng.random((478, 3), np.float32),
        "blendshapes": rng.random((T, 52), np.float32),
        "lip_opening": rng.random(T, np.float32),
        "lip_width": rng.random(T, np.float32),
        "blink": rng.random((T, 2), np.float32),
        "expression": rng.random((T, 8), np.float32),
        "valid": np.array([1, 1, 0, 1, 1, 1], np.uint8),
    }
    features = {"logmel": rng.random((4 * T, 80), np.float32), "phones": rng.random((4 * T, 40), np.float32)}
    waveform = as_16_bit(rng.uniform(-1, 1, T * 640).astype(np.float32))
    for index in range(T):
        writer.add_frame(index, frames[index], masks[index])
    writer.add_png("plate.png", frames[0])
    writer.add_sound("audio.wav", waveform)
    writer.add_tensors("tracks.safetensors", tracks)
    writer.add_tensors("features.safetensors", features)
    return {"masks": masks, "frames": frames, "tracks": tracks, "features": features, "waveform": waveform}


FEATURES = {name: feature_version(name) for name in ("logmel", "phones")}
MANIFEST = {"size": S, "num_frames": T, "features": FEATURES, "expression_names": list("abcdefgh")}


@pytest.fixture
def capture(tmp_path):
    with CaptureWriter(tmp_path / "capture") as writer:
        written = fill(writer)
        writer.finish(MANIFEST)
    return tmp_path / "capture", written


def test_everything_written_is_read_again(capture):
    folder, written = capture
    opened = Capture.open(folder)
    assert (opened.num_frames, opened.size, opened.expression_names) == (T, S, tuple("abcdefgh"))
    for name in ("viewmats", "K", "landmarks", "blendshapes", "lip_opening", "blink", "expression"):
        np.testing.assert_array_equal(getattr(opened, name), written["tracks"][name])
    np.testing.assert_array_equal(opened.valid, written["tracks"]["valid"].astype(bool))
    np.testing.assert_array_equal(opened.waveform, written["waveform"])
    np.testing.assert_array_equal(opened.plate, written["frames"][0])
    for index in range(T):
        np.testing.assert_array_equal(opened.masks(index), written["masks"][index])
        assert np.abs(opened.frame(index).astype(int) - written["frames"][index]).mean() < 3
    both = opened.feature("logmel+phones")
    np.testing.assert_array_equal(both[:, :80], written["features"]["logmel"])
    np.testing.assert_array_equal(both[:, 80:], written["features"]["phones"])


def test_an_absent_feature_and_a_frame_beyond_the_end_are_named(capture):
    opened = Capture.open(capture[0])
    with pytest.raises(CaptureCorrupt, match="whisper.*logmel, phones"):
        opened.feature("whisper")
    with pytest.raises(IndexError):
        opened.frame(T)
    with pytest.raises(IndexError):
        opened.masks(-1)


def test_rows_of_another_version_of_a_feature_are_not_given_out(tmp_path):
    with CaptureWriter(tmp_path / "old") as writer:
        fill(writer)
        writer.finish({**MANIFEST, "features": {**FEATURES, "phones": "phones:0"}})
    opened = Capture.open(tmp_path / "old")
    assert opened.feature("logmel").shape == (4 * T, 80)
    with pytest.raises(CaptureCorrupt, match="'phones'.*phones:0; prepare the recording again"):
        opened.feature("logmel+phones")


@pytest.mark.parametrize(
    "name", ["frames/000003.jpg", "masks/000000.png", "audio.wav", "tracks.safetensors", "plate.png"]
)
def test_one_flipped_byte_is_noticed_and_the_file_named(capture, name):
    path = capture[0] / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CaptureCorrupt, match=f"{path.name}.*sha256"):
        Capture.open(capture[0])


def test_a_missing_or_shortened_file_is_noticed_without_hashing(capture):
    path = capture[0] / "frames/000001.jpg"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CaptureCorrupt, match="bytes"):
        Capture.open(capture[0], verify=False)
    path.unlink()
    with pytest.raises(CaptureCorrupt, match="no such file"):
        Capture.open(capture[0], verify=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "version 2"),
        ({"format": "something"}, "format"),
        ({"num_frames": "6"}, "num_frames"),
        ({"frame_rate": 30}, "complete manifest"),
        ({"num_frames": T + 1}, r"float32 \[7, 52\]"),
    ],
)
def test_manifests_of_another_kind_are_refused(capture, change, message):
    path = capture[0] / "capture.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CaptureCorrupt, match=message):
        Capture.open(capture[0])


def test_a_manifest_cannot_point_outside_its_folder(capture):
    path = capture[0] / "capture.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../secret"] = {"sha256": "0", "bytes": 1}
    path.write_text(json.dumps(manifest))
    with pytest.raises(CaptureCorrupt, match="inside the capture"):
        Capture.open(capture[0])


def test_a_folder_that_is_no_capture_says_how_to_make_one(tmp_path):
    with pytest.raises(CaptureCorrupt, match="m2dao prepare"):
        Capture.open(tmp_path)


def test_the_content_hash_depends_on_content_alone(tmp_path):
    hashes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        with CaptureWriter(tmp_path / name) as writer:
            fill(writer, seed)
            hashes.append(writer.finish(MANIFEST))
        assert Capture.open(tmp_path / name).content_sha256 == hashes[-1]
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_unfinished_capture_leaves_nothing(tmp_path):
    def interrupted():
        with CaptureWriter(tmp_path / "capture") as writer:
            fill(writer)
            raise RuntimeError("no face")

    with pytest.raises(RuntimeError, match="no face"):
        interrupted()
    with CaptureWriter(tmp_path / "capture") as writer:
        fill(writer)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_only_replaced_on_request_and_only_if_it_is_a_capture(capture, tmp_path):
    folder = capture[0]
    with pytest.raises(InputError, match="--overwrite"), CaptureWriter(folder):
        pass
    with CaptureWriter(folder, overwrite=True) as writer:
        fill(writer, seed=2)
        sha256 = writer.finish(MANIFEST)
    assert Capture.open(folder).content_sha256 == sha256
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("three years of work")
    with pytest.raises(InputError, match="other files"), CaptureWriter(tmp_path / "home", overwrite=True):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file"), CaptureWriter(tmp_path / "file"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["capture", "file", "home"]


def _die_while_writing(out):
    with CaptureWriter(out) as writer:
        fill(writer)
        os._exit(9)


def test_what_a_killed_process_left_is_cleared_away_but_not_what_a_living_one_writes(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_die_while_writing, args=(tmp_path / "capture",))
    process.start()
    process.join()
    assert process.exitcode == 9
    left = list(tmp_path.iterdir())
    assert sorted(path.suffix == ".lock" for path in left) == [False, True]
    with CaptureWriter(tmp_path / "capture") as first:
        assert not any(path.exists() for path in left)
        with CaptureWriter(tmp_path / "capture"):
            assert first.folder.exists()


@pytest.mark.parametrize(
    "manifest", [{"cuts": [4, 2]}, {"quality": {"jump_cuts": [2, 4]}}], ids=["now", "until 2026-11"]
)
def test_cuts_divide_a_capture_into_shots(tmp_path, manifest):
    with CaptureWriter(tmp_path / "cut") as writer:
        fill(writer)
        writer.finish({**MANIFEST, **manifest})
    opened = Capture.open(tmp_path / "cut")
    assert opened.cuts.tolist() == [2, 4]
    assert opened.shots.tolist() == [0, 0, 1, 1, 2, 2]
