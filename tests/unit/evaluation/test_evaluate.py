"""An evaluation says what a protocol can say, and refuses what it cannot."""

import json
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from m2dao.capture.dataset import Capture
from m2dao.errors import ConfigError, InputError
from m2dao.evaluation.evaluate import _conditions, _rendered, evaluate
from m2dao.evaluation.mouth import _phone_names, lip_sync, track_lips
from m2dao.evaluation.nearest_torso import NearestTorso
from m2dao.evaluation.paste import HeadAlone, paste_head
from m2dao.identity import Talker
from m2dao.identity.checkpoint import load_identity, save_identity
from m2dao.training.fit import fit
from m2dao.training.frames.behind import behind_head, head_taken
from m2dao.training.frames.targets import decode_frames
from tests.support.small_capture import make_small_capture, small_recipe


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    capture = make_small_capture(folder / "ball")
    fit(capture, folder / "identity", recipe=small_recipe(), steps=30)
    return folder / "identity", capture


@pytest.mark.parametrize("protocol", ["paper", "portrait"])
def test_picture_protocols_measure_pictures_and_leave_something_to_look_at(fitted, tmp_path, protocol, monkeypatch):
    blind = type("Blind", (), {"track": lambda self, picture: None})  # whether a ball has a face is a matter of taste
    monkeypatch.setattr("m2dao.evaluation.evaluate.FaceTracker", blind)
    result = evaluate(*fitted, protocol, out_dir=tmp_path / "report").as_dict()
    assert result["num_frames"] == 12
    assert 15 < result["psnr_db"] < 60
    assert 0 < result["ssim"] <= 1
    assert result["flicker"] >= 0
    assert result["num_frames_without_face"] == 12  # no lips are made up where no face was found
    assert result["lmd_px"] is None
    assert result["sync_confidence"] is None
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text()) == result
    assert (tmp_path / "report" / "side_by_side.mp4").stat().st_size > 1000
    assert (tmp_path / "report" / "plots.png").stat().st_size > 1000


def test_paper_pastes_the_recorded_torso_and_so_scores_higher_below_the_head(fitted):
    paper, portrait = (evaluate(*fitted, protocol) for protocol in ("paper", "portrait"))
    assert paper.pictures.psnr_db > portrait.pictures.psnr_db
    assert paper.recorded == portrait.recorded, "the recording is the same, whatever is rendered"


@pytest.mark.parametrize(("protocol", "audio"), [("paper", "x.wav"), ("cross", None), ("other", None)])
def test_arguments_that_do_not_fit_the_protocol_are_refused(fitted, protocol, audio):
    with pytest.raises(ConfigError, match="protocol"):
        evaluate(*fitted, protocol, audio=audio)


def test_another_capture_is_refused_because_its_test_part_is_not_unseen(fitted, tmp_path):
    other = make_small_capture(tmp_path / "other", seed=4)
    with pytest.raises(InputError, match="fitted to"):
        evaluate(fitted[0], other, "paper")


def _outputs(head_share, torso_share):
    """Two renders of one pixel: a white head in front of a black torso, and the head alone."""
    colors = torch.full((1, 1, 1, 4), head_share)
    return (
        SimpleNamespace(colors=colors, alphas=torch.full((1, 1, 1, 1), head_share + torso_share)),
        SimpleNamespace(colors=colors, alphas=colors[..., 3:]),
    )


@pytest.mark.parametrize("torso_share", [0.0, 0.7])
def test_paper_counts_a_head_beyond_its_outline_alike_with_and_without_a_torso(torso_share):
    both, alone = _outputs(0.3, torso_share)
    masks, recorded = np.zeros((1, 1, 4), np.float32), np.zeros((1, 1, 3), np.uint8)
    behind = recorded  # the recording itself, where it shows no head
    picture = np.round(255 * both.colors[0, ..., :3].numpy() + (1 - both.alphas[0].numpy()) * behind).astype(np.uint8)
    pasted = paste_head(picture, both, alone, masks, recorded)
    assert pasted[0, 0].tolist() == [round(0.3 * 255)] * 3


def test_a_head_alone_is_the_head_without_what_hides_it(fitted):
    talker = Talker.load(fitted[0])
    capture = Capture.open(fitted[1])
    frames = decode_frames(capture, 64, range(120, 121), plate=talker.plate)
    conditions = next(_conditions(talker, capture, frames.indices))
    alone, both = HeadAlone(talker).render(conditions), talker.render_conditions(conditions)
    assert torch.allclose(alone.alphas, alone.colors[..., 3:], atol=1e-5), "nothing but head is left"
    assert (alone.colors[..., 3] >= both.colors[..., 3] - 1e-4).all(), "what the torso hid comes out"
    assert both.alphas.sum() > alone.alphas.sum()


def test_paper_shows_the_recording_outside_the_head_and_the_render_inside(fitted):
    capture, talker = Capture.open(fitted[1]), Talker.load(fitted[0])
    part = range(120, 121)
    frames = decode_frames(capture, 64, part, plate=talker.plate)
    pictures = {name: next(_rendered(talker, capture, frames, name))[1].astype(int) for name in ("paper", "portrait")}
    taken, head = head_taken(frames.masks(120)), frames.masks(120)[..., :3].sum(-1) > 0.98
    assert (
        np.abs(pictures["paper"] - pictures["portrait"])[head].mean() < 1
    )  # only what shines through from behind differs
    far = cv2.dilate(taken.astype(np.uint8), np.ones((13, 13))) == 0
    assert np.abs(pictures["paper"] - frames.rgb(120))[far].max() <= 3


def test_an_identity_is_not_judged_on_frames_it_was_trained_on(fitted, tmp_path):
    talker_dir, identity = tmp_path / "old", load_identity(fitted[0])
    manifest = replace(identity.manifest, fit=identity.manifest.fit | {"num_train": 120})  # by the split of before
    save_identity(talker_dir, identity._replace(manifest=manifest))
    with pytest.raises(InputError, match="has not seen the validation part"):
        evaluate(talker_dir, fitted[1], "paper")
    assert evaluate(talker_dir, fitted[1], "paper", split="test", max_frames=2).split == "test"


def test_an_unknown_part_is_refused(fitted):
    with pytest.raises(ConfigError, match="split 'train'"):
        evaluate(*fitted, "paper", split="train")


def test_an_identity_without_torso_gets_the_one_recorded_at_the_nearest_pose(fitted, tmp_path):
    capture = Capture.open(fitted[1])
    torso = NearestTorso(capture, 64, 108, soft_masks=True)
    nearest = torso.nearest(125)
    assert nearest < 108
    assert np.abs(capture.viewmats[nearest] - capture.viewmats[125]).max() < 0.02
    behind = torso.behind(125, capture.plate)
    own = decode_frames(capture, 64, range(nearest, nearest + 1), plate=capture.plate)
    np.testing.assert_array_equal(behind, own.target(nearest, generate_torso=False).behind.numpy())
    fit(fitted[1], tmp_path / "base", recipe=small_recipe("talking_gaussian_plus"), steps=5)
    assert evaluate(tmp_path / "base", fitted[1], "portrait").pictures.psnr_db > 10


def test_behind_the_head_nothing_of_the_head_is_left():
    rgb = np.zeros((40, 40, 3), np.float32)
    rgb[:, :] = (0, 0, 1)
    masks = np.zeros((40, 40, 4), np.float32)
    masks[10:25, 10:30, 0], rgb[10:25, 10:30] = 1, (1, 0, 0)
    masks[25:, 5:35, 3], rgb[25:, 5:35] = 1, (0, 1, 0)
    plate = np.full_like(rgb, (0, 0, 1))
    behind = behind_head(rgb, masks, plate)
    assert behind[..., 0].max() == 0
    assert behind[24, 20, 1] == 1  # the neck goes on behind the chin
    assert behind[11, 20, 2] == 1  # and the background behind the hair


def test_sync_finds_a_known_shift():
    rng = np.random.default_rng(0)
    names = _phone_names()
    frames = 200
    rows = np.zeros((frames * 4, len(names)), np.float32)
    is_open = np.repeat(rng.integers(0, 2, frames // 4), 4)
    rows[np.arange(frames * 4), np.where(np.repeat(is_open, 4), names.index("AA"), names.index("M"))] = 1
    result = lip_sync(rows, np.roll(is_open, -3).astype(float))
    assert round(result.offset_frames) == 3
    assert result.confidence > 0.5
    assert lip_sync(rows[:40], np.ones(10)) is None


def test_faces_missing_at_the_start_take_the_first_one_found():
    landmarks = np.full((4, 478, 3), np.nan)
    landmarks[2:] = np.random.default_rng(0).uniform(0, 64, (478, 3))
    lips = track_lips(landmarks, np.zeros((4, 52)))
    assert np.isfinite(lips.lip_opening).all()
    assert np.isnan(track_lips(np.full((3, 478, 3), np.nan), np.zeros((3, 52))).lip_opening).all()
