"""A fit learns, repeats itself, and survives being stopped anywhere."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from m2dao.errors import ConfigError, FitDiverged
from m2dao.formats import CAPTURE
from m2dao.identity.checkpoint import load_identity
from m2dao.kernels.threads import set_num_threads
from m2dao.motion.consistency import find_neighbours, neck_consistency
from m2dao.training import loop
from m2dao.training.budget import FitBudget
from m2dao.training.fit import fit
from m2dao.training.frames.conditions import TrainingConditions
from m2dao.training.frames.targets import TrainingFrames
from m2dao.training.loop import take_steps
from m2dao.training.schedule import Phase, Schedule, Span
from m2dao.training.setup import set_up_fit
from m2dao.training.state import FitConfig
from m2dao.training.step import StepRunner
from tests.support.small_capture import make_small_capture, small_recipe

# Every step moves the facial group, so an epoch surely comes to the broken frame's phase.
ALL_FACIAL = Schedule(spans=(Span(until=1.0, phases=(Phase(name="all", trainables=("facial.gaussians",)),)),))


class Stopped(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return make_small_capture(tmp_path_factory.mktemp("capture") / "ball")


def tensors_of(folder):
    stored = load_identity(folder)
    return stored.head.state_dict() | stored.speech.state_dict()


@pytest.fixture(scope="module")
def finished(capture, tmp_path_factory):
    out = tmp_path_factory.mktemp("fits") / "ball"
    reports = []
    result = fit(capture, out, recipe=small_recipe(), steps=100, on_progress=reports.append)
    return out, result, reports


def test_a_fit_comes_close_to_the_recording(finished):
    _, result, reports = finished
    assert result.steps == 100
    assert result.num_gaussians > 400
    assert result.psnr_train_db > 22
    assert 0 < abs(result.stored_loss_db) < 0.05
    steps = [report for report in reports if report.step]
    assert {"decoding", "learning", "placing"} <= {report.phase.split()[0] for report in reports[: -len(steps)]}
    assert steps[-1].psnr_db > steps[0].psnr_db


def test_an_identity_carries_the_cuts_of_its_training_part_and_no_slow_pose_mixes_over_them(
    capture, finished, tmp_path
):
    folder = shutil.copytree(capture, tmp_path / "cut")
    manifest = json.loads((folder / CAPTURE.manifest).read_text())
    (folder / CAPTURE.manifest).write_text(json.dumps({**manifest, "cuts": [54, 120]}))
    fit(folder, tmp_path / "cut.identity", recipe=small_recipe(), steps=1)
    whole, cut = (load_identity(where).signals for where in (finished[0], tmp_path / "cut.identity"))
    assert (whole["cuts"].tolist(), cut["cuts"].tolist()) == ([], [54])
    assert torch.equal(whole["poses"], cut["poses"])
    apart = (whole["slow_poses"] - cut["slow_poses"]).abs().amax(1)
    assert apart[52:56].max() > 1e-4
    assert apart[:2].max() == 0


def test_a_neck_holds_together_where_the_picture_alone_would_scatter_it(capture, tmp_path):
    def scatter(weight):
        recipe = small_recipe()
        losses, rates = replace(recipe.losses, consistency=weight), replace(recipe.rates, follow=0.2)
        fit(capture, tmp_path / f"{weight}", recipe=replace(recipe, losses=losses, rates=rates), steps=60)
        raw = load_identity(tmp_path / f"{weight}").head.groups["torso"].raw
        return float(neck_consistency(raw["follow"].sigmoid(), find_neighbours(raw["means"])))

    assert scatter(small_recipe().losses.consistency) < 0.2 * scatter(0.0)


def test_a_fit_leaves_numbers_and_pictures_but_no_step_checkpoint(finished):
    out, _, _ = finished
    work = out.with_name(out.name + ".fit")
    lines = [json.loads(line) for line in (work / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(25, 101, 25))
    assert (work / "strip.jpg").stat().st_size > 1000
    assert not (work / "step.safetensors").exists()


def test_the_same_seed_gives_the_same_identity(finished, capture, tmp_path):
    fit(capture, tmp_path / "again", recipe=small_recipe(), steps=100)
    again = tensors_of(tmp_path / "again")
    for name, value in tensors_of(finished[0]).items():
        assert torch.equal(value, again[name]), name


def test_the_number_of_threads_changes_nothing(finished, capture, tmp_path):
    try:
        fit(capture, tmp_path / "alone", recipe=small_recipe(), steps=100, num_threads=1)
    finally:
        set_num_threads(None)
    alone = tensors_of(tmp_path / "alone")
    for name, value in tensors_of(finished[0]).items():
        assert torch.equal(value, alone[name]), name


@pytest.mark.parametrize("stop_at", [7, 70])
def test_a_fit_stopped_and_resumed_ends_as_if_it_had_not_been(finished, capture, tmp_path, monkeypatch, stop_at):
    monkeypatch.setattr(loop, "_SAVE_EVERY_S", 0.0)
    take_step = StepRunner.differentiate
    steps = iter(range(10**6))

    def stopping(self, *args, **kwargs):
        if next(steps) == stop_at:
            raise Stopped
        return take_step(self, *args, **kwargs)

    monkeypatch.setattr(StepRunner, "differentiate", stopping)
    with pytest.raises(Stopped):
        fit(capture, tmp_path / "ball", recipe=small_recipe(), steps=100)
    assert not (tmp_path / "ball").exists()
    monkeypatch.setattr(StepRunner, "differentiate", take_step)
    fit(capture, tmp_path / "ball", recipe=small_recipe(), steps=100)
    resumed = tensors_of(tmp_path / "ball")
    for name, value in tensors_of(finished[0]).items():
        assert torch.equal(value, resumed[name]), name


def test_a_baseline_resumed_goes_on_with_the_sound_and_the_windows_it_had(capture, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_SAVE_EVERY_S", 0.0)
    recipe = small_recipe("talking_gaussian")
    whole = fit(capture, tmp_path / "whole", recipe=recipe, steps=100)
    take_step, steps = StepRunner.differentiate, iter(range(10**6))

    def stopping(self, *args, **kwargs):
        if next(steps) == 45:
            raise Stopped
        return take_step(self, *args, **kwargs)

    monkeypatch.setattr(StepRunner, "differentiate", stopping)
    with pytest.raises(Stopped):
        fit(capture, tmp_path / "ball", recipe=recipe, steps=100)
    monkeypatch.setattr(StepRunner, "differentiate", take_step)
    assert fit(capture, tmp_path / "ball", recipe=recipe, steps=100).loss == whole.loss
    resumed = tensors_of(tmp_path / "ball")
    for name, value in tensors_of(tmp_path / "whole").items():
        assert torch.equal(value, resumed[name]), name


def config_of(capture, work_dir, recipe):
    return FitConfig(capture_dir=capture, recipe=recipe, budget=FitBudget(steps=12), work_dir=work_dir, backend="cpu")


def test_a_late_price_of_patches_changes_nothing_before_its_time(capture, tmp_path):
    plain, priced = (
        replace(small_recipe(), losses=replace(small_recipe().losses, patches=weight), patches_from=0.5)
        for weight in (0.0, 1.0)
    )
    before, after = [], []
    for recipe in (plain, priced):
        run = set_up_fit(config_of(capture, tmp_path / f"{recipe.losses.patches}", recipe))
        for step, kept in ((6, before), (12, after)):
            take_steps(run, step)
            kept.append(run.head.groups["facial"].raw["sh0"].detach().clone())
    assert torch.equal(*before)
    assert not torch.equal(*after)


def test_a_step_checkpoint_of_another_fit_is_not_taken_over(capture, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_SAVE_EVERY_S", 0.0)
    monkeypatch.setattr("m2dao.training.fit.discard_checkpoint", lambda folder: None)
    work = tmp_path / "work"
    fit(capture, tmp_path / "one", recipe=small_recipe(), steps=5, work_dir=work)
    result = fit(capture, tmp_path / "two", recipe=small_recipe(), steps=6, seed=9, work_dir=work)
    assert result.steps == 6
    assert load_identity(tmp_path / "two").manifest.fit["seed"] == 9


def test_the_baseline_recipe_fits_without_a_torso(capture, tmp_path):
    result = fit(capture, tmp_path / "base", recipe=small_recipe("talking_gaussian"), steps=40)
    assert "torso" not in load_identity(tmp_path / "base").manifest.num_gaussians
    assert np.isfinite(result.loss)


def test_losses_that_are_never_a_number_stop_the_fit_by_name(capture, tmp_path, monkeypatch):
    take_step = StepRunner.differentiate
    lost = lambda self, *a: take_step(self, *a)._replace(loss=float("nan"))  # noqa: E731
    monkeypatch.setattr(StepRunner, "differentiate", lost)
    with pytest.raises(FitDiverged, match="step 0, frame"):
        fit(capture, tmp_path / "nan", recipe=small_recipe(), steps=3)


@pytest.mark.parametrize("where", ["picture", "gradient"])
def test_a_skipped_frame_is_left_out_and_named(capture, tmp_path, monkeypatch, where):
    """Its target is NaN, or its loss is finite and the gradients are not; either way the rest is fitted."""
    bad, reports = 17, []
    if where == "picture":
        target = TrainingFrames.target

        def broken(self, index, **options):
            found = target(self, index, **options)
            return found._replace(rgb=found.rgb * (math.nan if index == bad else 1.0))

        monkeypatch.setattr(TrainingFrames, "target", broken)
    else:
        conditions_of, take_step = TrainingConditions.of, StepRunner.differentiate
        seen = {}
        monkeypatch.setattr(
            TrainingConditions, "of", lambda self, index: seen.setdefault(index, conditions_of(self, index))
        )  # the same object for the same frame

        def infinite(self, frame, *args):
            result = take_step(self, frame, *args)
            if frame[0] is seen.get(bad):
                means = self.head.groups["facial"].raw["means"]
                next(gradient for parameter, gradient in result.gradients if parameter is means)[5] = math.inf
            return result

        monkeypatch.setattr(StepRunner, "differentiate", infinite)
    recipe = replace(small_recipe(), schedule=ALL_FACIAL)
    result = fit(capture, tmp_path / "fit", recipe=recipe, steps=130, on_progress=reports.append)
    assert result.steps == 130
    assert result.frames_left_out == [bad]
    assert math.isfinite(result.stored_loss_db)
    assert any(f"frame {bad} left out" in report.phase for report in reports)
    assert all(torch.isfinite(value).all() for value in tensors_of(tmp_path / "fit").values())


def test_a_budget_used_up_by_the_preparations_makes_no_identity(capture, tmp_path):
    with pytest.raises(ConfigError, match="before the first step"):
        fit(capture, tmp_path / "timed", recipe=small_recipe(), minutes=0.001)
    assert not (tmp_path / "timed").exists()
