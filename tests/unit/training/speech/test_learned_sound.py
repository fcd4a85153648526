"""Sound that the picture teaches: 32 numbers, learned with the mouth."""

from dataclasses import replace

import pytest
import torch

from m2dao.errors import ConfigError
from m2dao.identity.checkpoint import load_identity
from m2dao.training.budget import FitBudget
from m2dao.training.fit import complete_fit
from m2dao.training.loop import take_steps
from m2dao.training.recipes import get_recipe
from m2dao.training.setup import set_up_fit
from m2dao.training.state import FitConfig
from tests.support.small_capture import make_small_capture, small_recipe


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return make_small_capture(tmp_path_factory.mktemp("capture") / "ball")


def begin(capture, work_dir):
    return set_up_fit(
        FitConfig(
            capture_dir=capture,
            recipe=small_recipe("talking_gaussian"),
            budget=FitBudget(steps=100),
            seed=0,
            work_dir=work_dir,
            backend="cpu",
        )
    )


def state_of(driver):
    return torch.cat([parameter.detach().flatten() for parameter in driver.parameters()])


def test_a_step_hears_what_the_identity_will_hear(capture, tmp_path):
    run = begin(capture, tmp_path)
    features = run.data.capture.feature(run.data.voice.driver.config.features)
    with torch.no_grad():
        driver = run.data.voice.driver
        heard = driver(driver.windows(features, run.data.capture.num_frames))
    assert heard.shape[1] == 32
    for index in (0, 3, 50, 90):
        assert torch.allclose(run.data.conditions.of(index).audio, heard[index], atol=1e-5)


def test_sound_is_learned_with_the_mouth_and_with_nothing_else(capture, tmp_path):
    run = begin(capture, tmp_path / "work")
    at_rest = state_of(run.data.voice.driver)
    take_steps(run, 5)
    assert torch.equal(state_of(run.data.voice.driver), at_rest), "a static warm-up hears nothing"
    take_steps(run, 50)
    after_mouth = state_of(run.data.voice.driver)
    assert not torch.equal(after_mouth, at_rest)
    complete_fit(run, tmp_path / "ball")
    assert torch.equal(state_of(run.data.voice.driver), after_mouth)
    stored = state_of(load_identity(tmp_path / "ball").speech)
    assert torch.allclose(stored, after_mouth, atol=2e-3), "but for the half precision of files"


def test_sound_learned_with_the_picture_has_one_encoder_and_no_recorded_lips():
    for changes in ({"speech_encoders": 2}, {"recorded_lips": 0.5}, {"calibrate_lips": True}):
        with pytest.raises(ConfigError, match="learned_sound"):
            replace(get_recipe("talking_gaussian", 64), **changes)
