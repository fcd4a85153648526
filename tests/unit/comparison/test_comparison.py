"""A comparison makes each row once, under one budget, and says what was gained."""

import json
from unittest.mock import ANY

import numpy as np
import pytest

from m2dao.capture.cameras import frame_poses
from m2dao.capture.cameras.frame_poses import frame_by_frame_viewmats, with_poses
from m2dao.capture.cameras.solve import CameraSolution
from m2dao.capture.dataset import Capture
from m2dao.cli import main
from m2dao.commands.bench.quality import synthetic_voice
from m2dao.comparison.ablation import LESS_ONE, ROWS, AblationRow, choose_rows
from m2dao.comparison.report import bars, shares_table, side_by_side, table
from m2dao.comparison.runs import FIGURES as ROWS_FIGURES
from m2dao.comparison.runs import Comparison, ComparisonConfig
from m2dao.comparison.statistics import half_width_95, mean_gains, mean_rows, shares_of_gain
from m2dao.errors import ConfigError
from m2dao.evaluation.evaluate import cross_audio
from m2dao.media.audio import write_wav
from m2dao.media.video import probe_video, read_frames
from m2dao.timeline import SAMPLE_RATE
from tests.support.small_capture import make_small_capture, small_recipe

SMALL = tuple(
    AblationRow(name=name, what=name, recipe=lambda size, name=name: small_recipe(name))
    for name in ("talking_gaussian", "m2dao")
)
HOW_LONG = {"fit_seconds": ANY, "bytes": ANY}  # the manifest says how many seconds it took, in one digit or two


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    clip = folder / "ball.mp4"
    clip.write_bytes(b"stands for the recording the capture was made of")
    voice = _noise(folder / "voice.wav", seed=0)
    comparison = Comparison(clip, folder / "work", ComparisonConfig(size=64, steps=30), voice=voice)
    make_small_capture(comparison.capture_dir)
    return comparison, comparison.run(SMALL)


def _noise(path, *, seed):
    """Two and a half seconds of somebody's sound."""
    write_wav(path, np.random.default_rng(seed).uniform(-0.3, 0.3, 40_000).astype(np.float32))
    return path


def test_every_row_has_every_figure_under_every_protocol(made):
    comparison, entries = made
    assert [(entry["name"], entry["protocol"]) for entry in entries] == [
        (row.name, protocol) for row in SMALL for protocol in ("paper", "portrait", "cross")
    ]
    for entry in entries:
        assert entry["steps"] == 30
        if entry["protocol"] == "cross":  # no picture to compare with
            assert entry["psnr_db"] is None
            assert len([*read_frames(_film(comparison, entry["name"]))]) == 63
        else:
            assert 10 < entry["psnr_db"] < 60
            assert entry["edge_psnr_db"] > 5
            assert entry["recording_change"] > 0


def _film(comparison, row):
    return comparison.film(row, "cross")


def test_another_voice_is_heard_anew_and_nothing_else_is_made_again(made, tmp_path):
    comparison, _ = made
    stored = comparison.row_folder("m2dao") / "row.json"
    found = stored.read_text()
    marked = json.loads(found)
    marked["figures"]["validation"]["portrait"]["ssim"] = -1.0
    stored.write_text(json.dumps(marked))
    before = _film(comparison, "m2dao").read_bytes()
    other = Comparison(
        comparison.clip, comparison.folder.parent, comparison.config, voice=_noise(tmp_path / "other.wav", seed=1)
    )
    entries = other.run(SMALL[1:])
    assert [entry["ssim"] for entry in entries] == [
        json.loads(found)["figures"]["validation"]["paper"]["ssim"],
        -1.0,
        None,
    ]
    assert _film(comparison, "m2dao").read_bytes() != before
    stored.write_text(found)


def test_a_row_that_is_there_is_not_made_again_unless_it_was_made_otherwise(made):
    comparison, entries = made
    stored = comparison.row_folder("m2dao") / "row.json"
    found = json.loads(stored.read_text())
    marked = found | {"fit": found["fit"] | {"steps": -1}}
    stored.write_text(json.dumps(marked))
    assert comparison.run(SMALL[1:])[0]["steps"] == -1  # as it was found
    stored.write_text(json.dumps(marked | {"key": "of another recipe"}))
    assert comparison.run(SMALL[1:]) == [entry | HOW_LONG for entry in entries[3:]]


def test_what_is_shown_names_every_row(made, tmp_path):
    comparison, entries = made
    assert all(row.name in table(entries) for row in SMALL)
    assert bars(entries, "title").startswith(b"\x89PNG")
    side_by_side({row.name: comparison.film(row.name, "portrait") for row in SMALL}, tmp_path / "all.mp4")
    info = probe_video(tmp_path / "all.mp4")
    assert (info.width, info.height) == (3 * 64, 64 + 20)


def test_the_command_leaves_each_comparison_and_the_mean_of_all(made, tmp_path, monkeypatch, capsys):
    comparison, entries = made
    again = tmp_path / "again.mp4"
    again.write_bytes(b"stands for another recording")
    other = Comparison(again, comparison.folder.parent, comparison.config)
    make_small_capture(other.capture_dir)
    monkeypatch.setattr("m2dao.comparison.ablation.choose_rows", lambda names: SMALL)
    work = str(other.folder.parent)
    arguments = ["--clip", str(comparison.clip), "--clip", str(again), "--work", work, "--size", "64", "--steps", "30"]
    assert main(["bench", "quality", *arguments, "--audio", str(comparison.voice), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["clips"][0]["rows"] == [entry | HOW_LONG | {"ci95": {}} for entry in entries]
    assert (result["split"], result["seeds"]) == ("validation", [0])
    ours = next(gain for gain in result["gains"] if gain["protocol"] == "paper")
    assert ours["ci95"]["psnr_db"] == pytest.approx(0, abs=1e-3), "both recordings are the same"
    mean = json.loads((other.folder.parent / "mean-of-2-64px-30steps.json").read_text())
    assert mean == {name: value for name, value in result.items() if name != "clips"}
    assert (other.folder.parent / "mean-of-2-64px-30steps.png").read_bytes().startswith(b"\x89PNG")
    for folder in (comparison.folder, other.folder):
        assert {"comparison.json", "comparison.png", "comparison.mp4"} <= {file.name for file in folder.iterdir()}


def test_where_no_voice_is_given_a_presenter_speaks_and_is_kept(tmp_path):
    path = synthetic_voice(tmp_path)
    assert 8 < len(cross_audio(path)) / SAMPLE_RATE < 20
    before = path.stat().st_mtime_ns
    assert synthetic_voice(tmp_path) == path
    assert path.stat().st_mtime_ns == before
    assert [file.name for file in tmp_path.iterdir()] == ["voice.wav"]


def _unit(psnr_db, base_db):
    """What a seed or a recording gives under one protocol, and a figure that nobody knows."""
    figures = dict.fromkeys(ROWS_FIGURES) | {"what": "", "protocol": "paper", "steps": 1, "fit_seconds": 1.0}
    return [
        figures | {"name": name, "psnr_db": value}
        for name, value in (("talking_gaussian", base_db), ("m2dao", psnr_db))
    ]


def test_means_have_the_interval_of_what_is_repeated():
    base, ours = mean_rows([_unit(34.0, 31.0), _unit(36.0, 32.0)])
    assert (base["psnr_db"], ours["psnr_db"], ours["ssim"]) == (31.5, 35.0, None)
    assert ours["ci95"]["psnr_db"] == pytest.approx(12.7062, abs=1e-3), "t of one degree of freedom times 1"
    assert "ssim" not in ours["ci95"]
    assert mean_rows([_unit(34.0, 31.0)])[0]["ci95"] == {}
    assert half_width_95([1.0]) is None


def test_gains_are_paired_so_that_what_rows_share_cancels_out():
    units = [_unit(34.0, 31.0), _unit(37.0, 33.9), _unit(40.0, 37.1)]  # recordings differ by far more than gains
    gain, *others = mean_gains(units)
    assert not others
    assert (gain["over"], gain["protocol"]) == ("talking_gaussian", "paper")
    assert gain["psnr_db"] == pytest.approx(3.0)
    assert gain["head_psnr_db"] is None
    assert gain["ci95"] == {"psnr_db": pytest.approx(4.3027 * 0.1 / 3**0.5, abs=1e-4)}
    assert mean_gains([[row | {"protocol": "cross"} for row in unit] for unit in units]) == []


def test_seeds_are_cells_of_their_own_and_the_test_part_is_judged_without_another_fit(made, monkeypatch, capsys):
    comparison, _ = made
    monkeypatch.setattr("m2dao.comparison.ablation.choose_rows", lambda names: SMALL[1:])
    arguments = ["--clip", str(comparison.clip), "--work", str(comparison.folder.parent), "--size", "64"]
    arguments += ["--steps", "30", "--audio", str(comparison.voice), "--json"]
    assert main(["bench", "quality", *arguments, "--seeds", "2"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["seeds"] == [0, 1]
    assert result["rows"][0]["ci95"]["psnr_db"] > 0
    rows = [json.loads((comparison.folder / "m2dao" / f"seed-{seed}" / "row.json").read_text()) for seed in (0, 1)]
    psnr_db = [row["figures"]["validation"]["paper"]["psnr_db"] for row in rows]
    assert result["rows"][0]["psnr_db"] == pytest.approx(np.mean(psnr_db), abs=1e-3)
    monkeypatch.setattr("m2dao.comparison.runs.fit", None)  # another part needs no other fit
    assert main(["bench", "quality", *arguments, "--split", "test"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "test"
    stored = json.loads((comparison.row_folder("m2dao") / "row.json").read_text())
    assert set(stored["figures"]) == {"validation", "test"}


def test_rows_change_one_thing_at_a_time_and_end_at_ours():
    aside = ("talking_gaussian_plus", "talking_gaussian_raw_poses")
    recipes = [row.recipe(256) for row in ROWS if row.name not in aside]
    pairs = [*zip(recipes[:-2], recipes[1:-1], strict=True), *((recipes[-1], row.recipe(256)) for row in LESS_ONE)]
    for before, after in pairs:
        changed = [name for name in vars(after) if name != "name" and getattr(before, name) != getattr(after, name)]
        # 32 numbers of sound are learned with the picture, 8 from lips
        assert len(changed) == 1 or (after.name, changed) == ("sound_from_lips", ["model", "learned_sound"])
    assert recipes[-1].name == "m2dao"
    with pytest.raises(ConfigError, match="rows"):
        choose_rows(["gaussians"])


def test_tracked_poses_are_those_of_a_fit_to_landmarks_and_face_and_are_found_once(tmp_path, monkeypatch):
    capture = Capture.open(make_small_capture(tmp_path / "ball"))
    asked = []
    found = CameraSolution(
        K=2 * capture.K,
        viewmats=capture.viewmats[::-1],
        canonical_landmarks=-capture.canonical_landmarks,
        rigid_landmarks=np.arange(3),
        reprojection_px=0.0,
        pose_jitter_deg=0.0,
        second_difference_deg=0.0,
        measured_on_picture=capture.valid,
    )
    monkeypatch.setattr(frame_poses, "solve_cameras", lambda *args, **more: asked.append((args, more)) or found)
    for _ in range(2):
        view = with_poses(capture, "tracked")
        assert (view.viewmats == found.viewmats).all()
        assert (view.K == found.K).all()
        assert (view.canonical_landmarks == found.canonical_landmarks).all()
    (args, more), *others = asked
    assert not others, "all frames are read once, not for the fit and each evaluation"
    assert args[3](5).shape == (64, 64, 3)
    assert "masks" not in more, "published trackers look at the face alone"
    assert (capture.viewmats != found.viewmats).any(), "the capture itself stays as it is"


def test_frame_by_frame_poses_follow_the_landmarks_of_each_frame_alone(tmp_path):
    capture = Capture.open(make_small_capture(tmp_path / "ball"))
    capture.landmarks = capture.landmarks + np.random.default_rng(0).normal(0, 0.3, capture.landmarks.shape).astype(
        np.float32
    )
    found = frame_by_frame_viewmats(capture)
    turned = np.einsum("tij,tkj->tik", found[:, :3, :3], capture.viewmats[:, :3, :3])
    angle_deg = np.degrees(np.arccos(np.clip((np.trace(turned, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert 0.01 < np.median(angle_deg) < 2
    assert with_poses(capture, "refined") is capture
    assert (with_poses(capture, "frame_by_frame").viewmats == found).all()
    assert not (capture.viewmats == found).all()
    with pytest.raises(ConfigError, match="poses"):
        with_poses(capture, "smooth")


def test_the_gain_is_told_apart_into_capture_and_method():
    gained = [
        {"over": "talking_gaussian", "protocol": "paper", "psnr_db": 4.0},
        {"over": "talking_gaussian_plus", "protocol": "paper", "psnr_db": 1.5},
        {"over": "talking_gaussian_raw_poses", "protocol": "paper", "psnr_db": 7.0},
        {"over": "talking_gaussian", "protocol": "portrait", "psnr_db": 4.0},
    ]
    shares = shares_of_gain(gained)
    assert shares == [{"protocol": "paper", "total_db": 4.0, "capture_db": 2.5, "method_db": 1.5}]
    assert "+4.00 dB over the published design: +2.50 dB capture, +1.50 dB method" in shares_table(shares)


def test_several_budgets_are_one_comparison_each_that_goes_on_where_it_was(made, monkeypatch, capsys):
    comparison, entries = made
    monkeypatch.setattr("m2dao.comparison.ablation.choose_rows", lambda names: SMALL)
    arguments = ["--clip", str(comparison.clip), "--work", str(comparison.folder.parent), "--size", "64"]
    arguments += ["--steps", "30", "--steps", "4", "--audio", str(comparison.voice), "--json"]
    assert main(["bench", "quality", *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [budget["rows"][0]["steps"] for budget in result["budgets"]] == [30, 4]
    assert result["rows"] == result["budgets"][0]["rows"]
    assert result["rows"][0]["psnr_db"] == pytest.approx(entries[0]["psnr_db"], abs=1e-3)
    monkeypatch.setattr("m2dao.comparison.runs.fit", None)
    assert main(["bench", "quality", *arguments]) == 0, "nothing is fitted again"
    assert json.loads(capsys.readouterr().out) == result
    assert main(["bench", "quality", "--work", str(comparison.folder.parent), "--audio", str(comparison.voice)]) == 2
