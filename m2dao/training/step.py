"""One step of a fit: pose, render, compare, differentiate.

Shapes: H x W pixels, N Gaussians of all groups.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from m2dao.gaussians.density import ScreenGradients
from m2dao.motion.talking_head import FrameDrive, TalkingHead
from m2dao.render.api import device_of, render
from m2dao.stages import timed
from m2dao.training.feature_cache import FeatureCache
from m2dao.training.fused_losses import pixel_losses
from m2dao.training.fused_pose import fused_pose
from m2dao.training.losses import FrameTarget, motion_loss, pixel_losses_reference
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
        backend: render backend, on whose device the head lies; on ``cpu`` posing and pixel losses have kernels of their own.
    """

    def __init__(self, head: TalkingHead, recipe: Recipe, K: Tensor, *, backend: str):
        self.head, self.recipe, self.backend = head, recipe, backend
        self._K = K.float()[None].to(device_of(backend))
        self._camera = torch.eye(4, device=device_of(backend))[None]
        self._features = FeatureCache(head, recipe.field_block_steps)

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
        with timed("features"):
            static = self._features.get() if moving else None
        with timed("pose"):
            pose = partial(fused_pose, self.head) if self.backend == "cpu" else self.head.pose
            posed = pose(drive, static, moving=moving)
        with timed("render"):  # colours [1, H, W, 4]
            out = render(*posed[:5], self._camera, self._K, width=size, height=size, backend=self.backend)
        if gradients is not None:
            out.means2d.retain_grad()
        with timed("loss"):
            compare = pixel_losses if self.backend == "cpu" else pixel_losses_reference
            has_torso = self.head.torso is not None
            pixels = compare(out.colors[0], out.alphas[0], target, weights, has_torso=has_torso)
            loss = pixels.loss + motion_loss(self.head, posed, drive.viewmat, weights)
        with timed("backward"):
            loss.backward()
        if gradients is not None:
            self._collect(out.means2d.grad[0], out.radii[0] > 0, gradients)
        with timed("features"):
            if moving:
                self._features.differentiate()
        return StepResult(float(loss.detach()), pixels.mse, pixels.composite.detach())

    def new_turn(self) -> None:
        """To be called when other parameters are trained, or Gaussians were added: what was frozen may have moved."""
        self._features.clear()

    def _collect(self, gradient: Tensor, visible: Tensor, gradients: dict[str, ScreenGradients]) -> None:
        start = 0
        for name, group in self.head.groups.items():
            part = slice(start, start + len(group))
            gradients[name].add(gradient[part], visible[part], self.recipe.size / 2)
            start += len(group)
