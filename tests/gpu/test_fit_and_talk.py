"""A fit and a talker on a CUDA device, compared with the CPU."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from m2dao.identity import Talker
from m2dao.training.fit import fit
from tests.support.small_capture import make_small_capture, small_recipe
from tests.support.tiny_identity import make_tiny_identity

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="backend 'gsplat' needs a CUDA device")

STEPS = 60


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """The folder and the results, by backend."""
    folder = tmp_path_factory.mktemp("fits")
    capture, recipe = make_small_capture(folder / "small"), replace(small_recipe(), densify_every=20)
    return folder, {
        backend: fit(capture, folder / backend, recipe=recipe, steps=STEPS, backend=backend)
        for backend in ("cpu", "gsplat")
    }


def test_a_fit_on_the_device_gets_as_far_as_on_the_cpu(fits):
    _, results = fits
    assert results["gsplat"].psnr_train_db == pytest.approx(results["cpu"].psnr_train_db, abs=0.5)


def test_a_talker_on_the_device_shows_what_it_shows_on_the_cpu(fits):
    folder, _ = fits
    sound = np.random.default_rng(0).normal(0, 0.1, 40 * 640).astype(np.float32)  # more frames than two batches
    shown = [
        np.stack(list(Talker.load(folder / "cpu", backend=name).frames(sound))).astype(int)
        for name in ("cpu", "gsplat")
    ]
    assert len(shown[1]) == 40
    difference = np.abs(shown[0] - shown[1])
    assert difference.mean() < 0.1
    assert (difference > 4).mean() < 1e-3


def test_people_who_speak_at_once_on_the_device_show_what_they_show_alone(tmp_path):
    folders = [make_tiny_identity(tmp_path / str(seed), seed=seed) for seed in range(3)]
    sounds = np.random.default_rng(0).normal(0, 0.1, (3, 25 * 640)).astype(np.float32)
    alone = [
        np.stack(list(Talker.load(folder, backend="cpu").frames(sound)))
        for folder, sound in zip(folders, sounds, strict=True)
    ]
    talkers = [Talker.load(folder, backend="gsplat") for folder in folders]
    with ThreadPoolExecutor(3) as pool:
        shown = list(pool.map(lambda talker, sound: np.stack(list(talker.frames(sound))), talkers, sounds))
    for one, other in zip(alone, shown, strict=True):
        difference = np.abs(one.astype(int) - other)
        assert difference.mean() < 0.1
        assert (difference > 4).mean() < 1e-3
