"""One step of a fit: pose, render, compare, differentiate.

Shapes: H x W pixels, N Gaussians of all groups.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from m2dao.gaussians.density import ScreenGradients
from m2dao.motion.talking_head import FrameDrive, TalkingHead
from m2dao.render.api import render
from m2dao.training.losses import FrameTarget, mask_loss, motion_loss, picture_loss
from m2dao.training.recipes import Recipe


class StepResult(NamedTuple):
    """What a step gave."""

    loss: float
    mse: float  # of the whole composite
    composite: Tensor  # [H, W, 3] detached


class StepRunner:
    """Forward and backward of single frames.

    Args:
        head: the model.
        recipe: losses and kind.
        K: [3, 3] for the recipe's size.
        backend: render backend.
    """

    def __init__(self, head: TalkingHead, recipe: Recipe, K: Tensor, *, backend: str):
        self.head, self.recipe, self.backend = head, recipe, backend
        self._K = K.float()[None]
        self._camera = torch.eye(4)[None]

    def run(
        self, drive: FrameDrive, target: FrameTarget, *, moving: bool, gradients: dict[str, ScreenGradients] | None = None
    ) -> StepResult:
        """Accumulate the gradients of one frame.

        Args:
            drive, target: the frame.
            moving: whether non-rigid motion is on.
            gradients: collects screen-space gradients for density control, by group.
        """
        size, weights = self.recipe.size, self.recipe.losses
        static = self.head.static_features() if moving else None
        posed = self.head.pose(drive, static, moving=moving)
        out = render(
            *posed[:5], self._camera, self._K, width=size, height=size, backend=self.backend
        )  # colours [1, H, W, 4]
        if gradients is not None:
            out.means2d.retain_grad()
        alpha = out.alphas[0]
        composite = out.colors[0, ..., :3] + (1 - alpha) * target.behind
        loss = picture_loss(composite, target, weights)
        has_torso = self.head.torso is not None
        loss = loss + mask_loss(out.colors[0, ..., 3], alpha[..., 0], target, weights, has_torso=has_torso)
        loss = loss + motion_loss(self.head, posed, drive.viewmat, weights)
        loss.backward()
        if gradients is not None:
            self._collect(out.means2d.grad[0], out.radii[0] > 0, gradients)
        composite = composite.detach()
        mse = float((composite - target.rgb).square().mean())
        return StepResult(float(loss.detach()), mse, composite)

    def _collect(self, gradient: Tensor, visible: Tensor, gradients: dict[str, ScreenGradients]) -> None:
        start = 0
        for name, group in self.head.groups.items():
            part = slice(start, start + len(group))
            gradients[name].add(gradient[part], visible[part], self.recipe.size / 2)
            start += len(group)
