"""The fuzzer's boxes are those of the file, and each of its ways changes them."""

import numpy as np
import pytest

from tests.support.media.boxes import WAYS, mutate, parse
from tests.support.media.fuzz import make_files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    make_files(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


BOXED = ("mp4", "m4v.mp4", "m4a.mp4", "mov", "mkv", "webm", "mka", "ts", "avi", "wav", "rifx.wav", "aiff", "ogg", "flv")
INSIDE = {
    "mp4": b"stsz",
    "m4v.mp4": b"tfdt",
    "mkv": b"\x86",
    "avi": b"strf",
    "wav": b"fmt ",
}  # in other boxes, or first


@pytest.mark.parametrize("suffix", BOXED)
def test_boxes_cover_a_file_one_behind_the_other(files, suffix):
    data = files[f"source.{suffix}"]
    boxes = parse(data)
    assert boxes[0].start in (0, 13)
    assert boxes[-1].end in (len(data), len(data) // 188 * 188)
    assert all(before.end == after.start for before, after in zip(boxes, boxes[1:], strict=False))
    for box in (inner for outer in boxes for inner in outer.all()):
        assert box.start < box.body <= box.end
        assert all(box.body <= inner.start and inner.end <= box.end for inner in box.inner)
    names = [data[at : at + length] for at, length in (box.name for outer in boxes for box in outer.all())]
    assert INSIDE.get(suffix, names[0]) in names


@pytest.mark.parametrize("way", WAYS)
def test_each_way_changes_files_and_the_same_seed_gives_the_same_change(files, way):
    changed = 0
    for number, data in enumerate(files.values()):
        made = [mutate(data, np.random.default_rng(number), way) for _ in range(2)]
        assert made[0] == made[1]
        changed += made[0] != data
    assert changed > len(BOXED) / 2


@pytest.mark.parametrize("suffix", ["mp3", "wv", "au"])
def test_a_file_without_boxes_has_none_and_stays(files, suffix):
    data = files[f"source.{suffix}"]
    assert parse(data) == []
    assert mutate(data, np.random.default_rng(0)) == data
