"""One step of a fit: pose, render, compare, differentiate.

Shapes: H x W pixels, N Gaussians of all groups.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from m2dao.gaussians.density import ScreenGradients
from m2dao.motion.talking_head import STATIC_PARTS, FrameDrive, StaticFeatures, TalkingHead
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
        self._frozen: dict[str, Tensor] = {}  # static features of parts that do not train in the present turn

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
        static = self._static_features() if moving else None
        posed = self.head.pose(drive, static, moving=moving)
        out = render(
            *posed[:5], self._camera, self._K, width=size, height=size, backend=self.backend
        )  # colours [1, H, W, 4]
        if gradients is not None:
            out.means2d.retain_grad()
        alpha = out.alphas[0]
        rgb, head_alpha = out.colors[0].split((3, 1), dim=-1)
        composite = rgb + (1 - alpha) * target.behind
        loss = picture_loss(composite, target, weights)
        has_torso = self.head.torso is not None
        loss = loss + mask_loss(head_alpha[..., 0], alpha[..., 0], target, weights, has_torso=has_torso)
        loss = loss + motion_loss(self.head, posed, drive.viewmat, weights)
        loss.backward()
        if gradients is not None:
            self._collect(out.means2d.grad[0], out.radii[0] > 0, gradients)
        composite = composite.detach()
        mse = float((composite - target.rgb).square().mean())
        return StepResult(float(loss.detach()), mse, composite)

    def new_turn(self) -> None:
        """To be called when other parameters are trained, or Gaussians were added: what was frozen may have moved."""
        self._frozen = {}

    def _static_features(self) -> StaticFeatures:
        """Static features, computed once a turn for parts whose field and Gaussians are frozen."""
        parts = {}
        for part, (field, group) in STATIC_PARTS.items():
            module, gaussians = getattr(self.head, field), self.head.groups
            if module is None:
                parts[part] = None
                continue
            means = gaussians[group].raw["means"]
            frozen = not (means.requires_grad or next(module.parameters()).requires_grad)
            if frozen and part in self._frozen:
                parts[part] = self._frozen[part]
                continue
            parts[part] = module.static_features(means.detach())
            if frozen:
                self._frozen[part] = parts[part]
        return StaticFeatures(**parts)

    def _collect(self, gradient: Tensor, visible: Tensor, gradients: dict[str, ScreenGradients]) -> None:
        start = 0
        for name, group in self.head.groups.items():
            part = slice(start, start + len(group))
            gradients[name].add(gradient[part], visible[part], self.recipe.size / 2)
            start += len(group)
