"""A perceptual price of small patches: what a published baseline adds late in its fit.

Shapes: S pixels a side of the picture, P of a patch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from m2dao.regions import ORAL, WHOLE_HEAD
from m2dao.training.frames.targets import FrameTarget
from m2dao.training.losses.perceptual import StLpips

_SIDE_PX = 64


class PatchLoss:
    """ST-LPIPS of patches of a picture: of the mouth, or of a place in the head.

    The evaluation measures by the same network. So who fits with this loss is favoured by that figure.

    Args:
        device: where pictures lie.
    """

    def __init__(self, device: torch.device):
        self._distance = StLpips().to(device)

    def __call__(self, composite: Tensor, target: FrameTarget, number: int) -> Tensor:
        """The price of one patch, a scalar.

        Args:
            composite: [S, S, 3].
            target: what it should look like.
            number: of the patch. Even ones show the mouth, odd ones another place.
        """
        top, left = patch_corner(target.masks.cpu().numpy(), number)
        rows, columns = slice(top, top + _SIDE_PX), slice(left, left + _SIDE_PX)
        return self._distance(composite[rows, columns], target.rgb[rows, columns])


def patch_corner(masks: np.ndarray, number: int) -> tuple[int, int]:
    """Top and left of a patch in masks [S, S, 4], whose middle is in the mouth or the head."""
    size = len(masks)
    rng = np.random.default_rng(number)
    region = masks[..., ORAL] if number % 2 == 0 else masks[..., WHOLE_HEAD].sum(-1)
    inside = np.argwhere(region > 0.5)
    if not len(inside):
        middle = np.array([size / 2, size / 2])
    else:
        middle = inside.mean(axis=0) if number % 2 == 0 else inside[rng.integers(len(inside))]
    top, left = np.clip(np.round(middle - _SIDE_PX / 2), 0, max(0, size - _SIDE_PX)).astype(int).tolist()
    return top, left
