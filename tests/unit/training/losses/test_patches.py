"""A patch has a price of its own: that of the mouth, or of a place in the head."""

import numpy as np
import pytest
import torch

from m2dao.regions import FACIAL, ORAL
from m2dao.training.frames.targets import FrameTarget
from m2dao.training.losses.patches import PatchLoss, patch_corner

SIZE, SIDE = 128, 64


@pytest.fixture(scope="module")
def target():
    rgb = torch.from_numpy(np.random.default_rng(0).uniform(size=(SIZE, SIZE, 3)).astype(np.float32))
    masks = torch.zeros(SIZE, SIZE, 4)
    masks[20:90, 30:100, FACIAL] = 1
    masks[70:80, 60:80] = 0
    masks[70:80, 60:80, ORAL] = 1
    return FrameTarget(rgb, masks, torch.zeros_like(rgb), masks[..., ORAL])


@pytest.mark.parametrize("number", range(6))
def test_a_patch_prices_what_it_shows_and_nothing_beside_it(target, number):
    price = PatchLoss(torch.device("cpu"))
    assert float(price(target.rgb, target, number)) == pytest.approx(0, abs=1e-6)
    picture = (0.5 * target.rgb).requires_grad_()
    price(picture, target, number).backward()
    top, left = patch_corner(target.masks.numpy(), number)
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[top : top + SIDE, left : left + SIDE] = True
    assert (picture.grad[inside] != 0).any()
    assert (picture.grad[~inside] == 0).all()


def test_even_patches_show_the_mouth_and_odd_ones_other_places(target):
    corners = [patch_corner(target.masks.numpy(), number) for number in range(40)]
    assert len(set(corners[::2])) == 1
    assert all(abs(edge + SIDE / 2 - middle) <= 1 for edge, middle in zip(corners[0], (74.5, 69.5), strict=True))
    assert len(set(corners[1::2])) > 10
    assert all(0 <= edge <= SIZE - SIDE for corner in corners for edge in corner)


def test_a_picture_without_mouth_or_smaller_than_a_patch_has_one_too(target):
    assert patch_corner(np.zeros((SIZE, SIZE, 4), np.float32), 0) == (32, 32)
    assert patch_corner(np.zeros((40, 40, 4), np.float32), 1) == (0, 0)
