"""Fits and talkers bring everything to their backend's device, and fetch what they write from there."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from m2dao.identity import Talker
from m2dao.identity.batches import BatchedHead, HeadStack
from m2dao.kernels.threads import get_num_threads, set_num_threads
from m2dao.training.budget import FitBudget
from m2dao.training.checkpoint import save_checkpoint
from m2dao.training.fit import complete_fit
from m2dao.training.loop import take_steps
from m2dao.training.setup import set_up_fit
from m2dao.training.state import FitConfig
from tests.support.pretend_cuda import DeviceTensor, draw_blobs, pretend_cuda
from tests.support.restless_head import some_conditions
from tests.support.small_capture import make_small_capture, small_recipe
from tests.support.tiny_identity import make_tiny_identity

STEPS = 12


@pytest.fixture(scope="module", autouse=True)
def blobs():
    """Both backends draw alike, and one thread does all the work: the device is pretended in that one."""
    before = get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("m2dao.render.reference.render_reference", draw_blobs)
        set_num_threads(1)
        yield
    set_num_threads(before)


def fit(capture, folder, backend):
    """A fit that is stopped and resumed in the middle, and whose Gaussians grow."""
    folder.mkdir()
    recipe = replace(small_recipe(), densify_every=3, speech_steps=5)
    config = FitConfig(
        capture_dir=capture, recipe=recipe, budget=FitBudget(steps=STEPS), work_dir=folder, backend=backend
    )
    begun = set_up_fit(config)
    take_steps(begun, STEPS // 2)
    save_checkpoint(begun)
    return complete_fit(set_up_fit(config), folder / "identity")


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """The folder and the results, by backend."""
    folder = tmp_path_factory.mktemp("fits")
    capture, results = make_small_capture(folder / "small"), {}
    for backend in ("reference", "gsplat"):
        with pretend_cuda() if backend == "gsplat" else nullcontext():
            results[backend] = fit(capture, folder / backend, backend)
    return folder, results


def test_tensors_of_two_devices_do_not_meet():
    with pretend_cuda():
        there = torch.ones(3, device="cuda")
        assert there.device.type == "cuda"
        assert isinstance(there * 2, DeviceTensor)
        assert (there * 2).cpu().sum() == 6
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)


def test_a_fit_on_the_device_is_the_fit_on_the_cpu(fits):
    _, results = fits
    there, here = results["gsplat"], results["reference"]
    assert there.loss == pytest.approx(here.loss, rel=1e-4)
    assert there.num_gaussians == here.num_gaussians
    assert there.stored_loss_db == pytest.approx(here.stored_loss_db, abs=1e-3)


def test_a_talker_on_the_device_shows_what_it_shows_on_the_cpu(fits):
    folder, _ = fits
    sound = np.random.default_rng(0).normal(0, 0.1, 3 * 640).astype(np.float32)
    shown = {}
    for backend in ("reference", "gsplat"):
        with pretend_cuda() if backend == "gsplat" else nullcontext():
            talker = Talker.load(folder / "reference" / "identity", backend=backend)
            shown[backend] = np.stack(list(talker.frames(sound))).astype(int)
    assert len(shown["gsplat"]) == 3
    assert np.abs(shown["gsplat"] - shown["reference"]).max() <= 1


def test_frames_of_several_people_are_posed_together_on_the_device(tmp_path):
    posed = {}
    for backend in ("reference", "gsplat"):
        torch.manual_seed(0)
        conditions = some_conditions(torch.eye(4), posture=False)
        with pretend_cuda() if backend == "gsplat" else nullcontext():
            folders = [make_tiny_identity(tmp_path / f"{backend}{seed}", seed=seed) for seed in range(2)]
            talkers = [Talker.load(folder, backend=backend) for folder in folders]
            heads = [BatchedHead(talker.head) for talker in talkers]
            posed[backend] = [
                value.cpu() for value in HeadStack().pose([(head, conditions.at(None)) for head in heads])
            ]
    for there, here in zip(posed["gsplat"], posed["reference"], strict=True):
        torch.testing.assert_close(there, here, atol=1e-5, rtol=1e-4)
