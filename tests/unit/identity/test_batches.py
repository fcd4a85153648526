"""Frames posed several at a time are those posed one by one."""

import numpy as np
import pytest
import torch

from m2dao.identity import Talker
from m2dao.identity.batches import BatchedHead, join_frames
from m2dao.render.composite import finish_picture, finish_pictures
from tests.support.restless_head import KINDS, restless_head, some_conditions
from tests.support.tiny_identity import make_tiny_identity


@pytest.mark.parametrize(("degree", "config"), KINDS)
def test_several_frames_at_once_are_the_same_as_one_by_one(tmp_path, degree, config):
    head = restless_head(tmp_path, degree=degree, **config)
    per_frame = [some_conditions(torch.eye(4), posture=config.get("has_torso", True)) for _ in range(3)]
    together = BatchedHead(head).pose(join_frames([conditions.at(None) for conditions in per_frame]))
    with torch.no_grad():
        static = head.static_features()
        for index, conditions in enumerate(per_frame):
            for value, batch in zip(head.pose(conditions, static)[:5], together, strict=True):
                torch.testing.assert_close(batch[index], value, atol=1e-5, rtol=1e-4)


def test_several_frames_at_rest_are_the_same_as_one_by_one(tmp_path):
    head = restless_head(tmp_path, degree=1)
    per_frame = [some_conditions(torch.eye(4), posture=True) for _ in range(3)]
    with torch.no_grad():
        together = head.pose(join_frames([conditions.at(None) for conditions in per_frame]), None, moving=False)
        for index, conditions in enumerate(per_frame):
            for value, batch in zip(head.pose(conditions, None, moving=False)[:5], together[:5], strict=True):
                torch.testing.assert_close(batch[index], value, atol=1e-5, rtol=1e-4)


def test_the_reference_shows_what_the_kernels_show(tmp_path):
    folder = make_tiny_identity(tmp_path / "tiny", size=64)
    sound = np.random.default_rng(0).normal(0, 0.1, 30 * 640).astype(np.float32)  # more frames than one batch
    for background in (None, "transparent"):
        shown = [
            np.stack(list(Talker.load(folder, backend=name).frames(sound, background=background)))
            for name in ("cpu", "reference")
        ]
        assert len(shown[1]) == 30
        assert np.abs(shown[0].astype(int) - shown[1]).max() <= 1


def test_pictures_are_finished_alike_on_any_device():
    generator = torch.Generator().manual_seed(0)
    alphas = torch.rand(2, 8, 8, 1, generator=generator)
    alphas[0, 0] = 0
    colors = torch.rand(2, 8, 8, 4, generator=generator) * alphas
    background = np.full((8, 8, 3), 90, np.uint8)
    for backdrop in (background, None):
        several = finish_pictures(colors, alphas, None if backdrop is None else torch.from_numpy(backdrop)).numpy()
        for index in range(2):
            one = finish_picture(colors[index].numpy(), alphas[index].numpy(), backdrop)
            assert np.abs(several[index].astype(int) - one).max() <= 1
