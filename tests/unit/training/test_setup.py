"""What a fit needs is built by itself, and can be looked at without taking a step."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from m2dao.errors import CaptureRejected
from m2dao.gaussians.rotations import quat_from_matrix
from m2dao.training.budget import FitBudget
from m2dao.training.checkpoint import save_checkpoint
from m2dao.training.fit import fit
from m2dao.training.loop import take_steps
from m2dao.training.schedule import Phase, Schedule, Span
from m2dao.training.setup import set_up_fit
from m2dao.training.state import FitConfig
from tests.support.small_capture import make_small_capture, small_recipe


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return make_small_capture(tmp_path_factory.mktemp("capture") / "ball")


def config_of(capture, work_dir, **changes):
    given = {"recipe": small_recipe(), "budget": FitBudget(steps=20), "backend": "cpu"}
    return FitConfig(**given | {"capture_dir": capture, "work_dir": work_dir} | changes)


def test_a_fit_that_is_set_up_has_everything_but_steps(capture, tmp_path):
    reports = []
    run = set_up_fit(config_of(capture, tmp_path / "work"), reports.append)
    recipe = small_recipe()
    assert (run.step, run.progress) == (0, 0.0)
    assert set(run.head.groups) == {"facial", "oral", "torso"}
    assert 40 < len(run.head.groups["oral"]) <= recipe.seeds["oral"] + recipe.seeds["inner"]
    assert {name: len(value.total) for name, value in run.gradients.items()} == {
        name: len(group) for name, group in run.head.groups.items()
    }
    assert run.data.num_train == 108
    assert run.data.usable.tolist() == run.data.frames.indices == list(range(108))
    assert run.data.conditions.of(7).audio.shape == (recipe.model.embedding_size,)
    assert [report.phase.split()[0] for report in reports][-1] == "placing"
    assert not any((tmp_path / "work").iterdir()), "nothing is written before the first step"


def test_a_fit_leaves_the_random_state_of_its_caller_alone(capture, tmp_path):
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 (the state that a fit must not touch)
    random.seed(123)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    fit(capture, tmp_path / "identity", recipe=small_recipe(), steps=30)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert torch.equal(states[0], after[0])
    assert states[1:] == after[1:]


def test_what_the_caller_drew_before_changes_no_first_parameter(capture, tmp_path):
    torch.manual_seed(1)
    one = set_up_fit(config_of(capture, tmp_path / "one"))
    torch.manual_seed(2)
    other = set_up_fit(config_of(capture, tmp_path / "other"))
    for name, value in one.head.state_dict().items():
        assert torch.equal(value, other.head.state_dict()[name]), name


def test_a_fit_set_up_again_is_the_one_that_was_stopped(capture, tmp_path):
    config = config_of(capture, tmp_path)
    run = set_up_fit(config)
    take_steps(run, 10)
    save_checkpoint(run)
    again = set_up_fit(config)
    assert again.step == run.step == 10
    assert again.progress == run.progress == 0.5
    for name, value in run.head.state_dict().items():
        assert torch.equal(value, again.head.state_dict()[name]), name
    for index in (0, 60, 107):
        for one, other in zip(run.data.conditions.of(index), again.data.conditions.of(index), strict=True):
            assert one is other is None or torch.equal(one, other), "what drives a frame does not follow the steps"


def test_gaussians_that_are_not_trained_neither_grow_nor_move(capture, tmp_path):
    frozen = Span(until=0.01, phases=(Phase(name="static", trainables=("facial.gaussians",)),), moving=False)
    mouth = Phase(name="mouth", trainables=("oral.gaussians", "oral.field"))
    schedule = Schedule(spans=(frozen, Span(until=1.0, phases=(mouth,), densify=True)))
    recipe = replace(small_recipe(), schedule=schedule, densify_every=5)
    run = set_up_fit(config_of(capture, tmp_path, recipe=recipe))
    before = {name: group.raw["means"].clone() for name, group in run.head.groups.items()}
    take_steps(run, 2)
    face = run.head.groups["facial"].raw["means"].clone()
    take_steps(run, 20)
    assert len(run.head.groups["oral"]) != len(before["oral"]), "what is trained grows"
    assert torch.equal(run.head.groups["torso"].raw["means"], before["torso"])
    assert torch.equal(run.head.groups["facial"].raw["means"], face)
    assert not run.gradients["facial"].count.any(), "gradients of a frozen group would count once it is trained"


def test_a_recording_too_short_to_learn_from_is_refused(tmp_path):
    short = make_small_capture(tmp_path / "short", num_frames=60)
    with pytest.raises(CaptureRejected, match="90 frames to train on"):
        set_up_fit(config_of(short, tmp_path / "work"))


def test_a_step_does_not_ask_for_the_rotation_of_a_pose_number_by_number(capture, tmp_path):
    run = set_up_fit(config_of(capture, tmp_path))
    for index in (0, 60):
        drive = run.data.conditions.of(index)
        assert torch.equal(drive.view_quat, quat_from_matrix(drive.viewmat[:3, :3]))
