"""A whole capture of a synthetic presenter against the truth that was written beside the recording."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.spatial.transform import Rotation

from m2dao.capture.dataset import Capture
from m2dao.capture.prepare import prepare
from m2dao.presenter import make_recording, persons

SIZE = 256


@pytest.fixture(scope="module", params=persons())
def pair(request, tmp_path_factory):
    """The capture of a presenter, and the truth."""
    folder = tmp_path_factory.mktemp(request.param)
    film = make_recording(folder, person=request.param, seconds=6.0, size=SIZE)
    result = prepare(film.video, folder / "capture", size=SIZE)
    return SimpleNamespace(
        capture=Capture.open(folder / "capture"), truth=load_file(film.truth), result=result, crop_px=_crop(folder)
    )


def _crop(folder) -> tuple[float, float, float]:
    crop = Capture.open(folder / "capture").manifest["crop"]
    return crop["x"], crop["y"], crop["side"]


def _correlation(one, other) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def test_the_head_turns_as_it_did(pair):
    found = Rotation.from_matrix(pair.capture.viewmats[:, :3, :3])
    true = Rotation.from_matrix(pair.truth["viewmats"][: len(found), :3, :3])
    # The two head spaces may differ by a constant turn, which is no error.
    offset = (true.inv() * found).mean()
    error_deg = np.degrees((found * (true * offset).inv()).magnitude())
    assert np.sqrt(np.mean(error_deg**2)) < 1.0
    turn_deg = np.degrees((true * true.mean().inv()).magnitude())
    assert np.sqrt(np.mean(error_deg**2)) < 0.25 * np.sqrt(np.mean(turn_deg**2)) + 0.2


def test_lips_and_lids_move_as_they_did(pair):
    num_frames = pair.capture.num_frames
    lips = pair.truth["lip_opening"][:num_frames]
    assert _correlation(pair.capture.lip_opening, lips) > 0.9
    assert np.abs(pair.capture.lip_opening - lips).mean() < 0.05
    assert pair.capture.lip_opening[pair.truth["closed"][:num_frames] > 0].max() < 0.06
    assert _correlation(pair.capture.blink.mean(1), pair.truth["blink"][:num_frames].mean(1)) > 0.85


def test_masks_cover_what_was_drawn(pair):
    x, y, side = pair.crop_px
    scale = np.array([[SIZE / side, 0, -x * SIZE / side], [0, SIZE / side, -y * SIZE / side]])
    overlaps = {name: [] for name in ("facial", "oral", "head", "torso", "person")}
    for index, drawn in zip(pair.truth["mask_frames"], pair.truth["masks"], strict=True):
        if index >= pair.capture.num_frames:
            continue
        true = cv2.warpAffine(drawn, scale, (SIZE, SIZE), flags=cv2.INTER_LINEAR).astype(np.float64) / 255
        found = pair.capture.masks(int(index)).astype(np.float64) / 255
        for channel, name in enumerate(("facial", "oral", "head", "torso")):
            overlaps[name].append(_overlap(found[..., channel], true[..., channel]))
        overlaps["person"].append(_overlap(found.sum(-1), true.sum(-1)))
    means = {name: np.mean(values) for name, values in overlaps.items()}
    assert means["person"] > 0.95, means
    assert means["facial"] > 0.8 and means["torso"] > 0.85, means
    assert means["oral"] > 0.6 and means["head"] > 0.6, means


def test_the_sound_is_in_time(pair):
    assert pair.result.sync_offset_frames == 0
    assert pair.result.verdict in ("good", "usable")


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two soft masks."""
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())
