"""The loss terms of a fit.

Shapes: H x W pixels, N Gaussians.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from m2dao.motion.consistency import neck_consistency
from m2dao.motion.talking_head import TAG_HAIR, PosedGaussians, TalkingHead
from m2dao.regions import WHOLE_HEAD
from m2dao.training.frames.targets import FrameTarget
from m2dao.training.losses.ssim import dssim_loss
from m2dao.training.recipes import LossWeights

_LONGEST = math.log(6.0)  # of the longest axis over the shortest


class PixelLosses(NamedTuple):
    """What one rendered frame costs."""

    loss: Tensor  # scalar
    composite: Tensor  # [H, W, 3]
    mse: float


def pixel_losses_reference(
    colors: Tensor, alphas: Tensor, target: FrameTarget, weights: LossWeights, *, has_torso: bool
) -> PixelLosses:
    """All pixel-wise terms of a rendered frame.

    Args:
        colors: [H, W, 4] premultiplied, the fourth channel the head's visible alpha.
        alphas: [H, W, 1].
    """
    rgb, head_alpha = colors.split((3, 1), dim=-1)
    composite = rgb + (1 - alphas) * target.behind
    loss = picture_loss(composite, target, weights)
    loss = loss + mask_loss(head_alpha[..., 0], alphas[..., 0], target, weights, has_torso=has_torso)
    return PixelLosses(loss, composite, float((composite.detach() - target.rgb).square().mean()))


def picture_loss(rgb: Tensor, target: FrameTarget, weights: LossWeights) -> Tensor:
    """(1 - w) weighted L1 + w (1 - SSIM), mouth and eyes counting more (Kerbl et al., 2023, eq. 7).

    Args:
        rgb: [H, W, 3] composite.
    """
    emphasis = 1 + weights.roi_emphasis * target.roi_weight[..., None]
    l1 = ((rgb - target.rgb).abs() * emphasis).mean()
    return (1 - weights.dssim) * l1 + weights.dssim * 2 * dssim_loss(rgb, target.rgb)


def mask_loss(
    head_alpha: Tensor, alpha: Tensor, target: FrameTarget, weights: LossWeights, *, has_torso: bool
) -> Tensor:
    """Soft silhouettes: the head's visible alpha and the whole person's.

    Args:
        head_alpha, alpha: [H, W].
    """
    loss = weights.head_mask * (head_alpha - target.masks[..., WHOLE_HEAD].sum(-1)).abs().mean()
    if has_torso:
        loss = loss + weights.person_mask * (alpha - target.masks.sum(-1)).abs().mean()
    return loss


def spike_loss(scales: Tensor, chosen: Tensor) -> Tensor:
    """A price for Gaussians much longer than thick: a pose that nobody recorded makes flames of them.

    Args:
        scales: [N, 3] logs of metres.
        chosen: [N] bool.
    """
    beyond = (scales.amax(dim=1) - scales.amin(dim=1) - _LONGEST).clamp_min(0)
    return (beyond.square() * chosen).sum() / chosen.sum().clamp_min(1)


def motion_loss(head: TalkingHead, posed: PosedGaussians, neighbours: Tensor | None, weights: LossWeights) -> Tensor:
    """Kinematic consistency of neck and head, and a price for torso motion that the pose does not explain.

    Args:
        neighbours: [N_torso, K] as ``find_neighbours`` gives them, for the consistency; None leaves it out.
    """
    loss = torch.zeros(())
    if weights.hair_shape:
        facial = head.groups["facial"]
        loss = loss + weights.hair_shape * spike_loss(facial.raw["scales"], facial.tags == TAG_HAIR)
    if neighbours is not None:
        follow = head.groups["torso"].raw["follow"].sigmoid()
        loss = loss + weights.consistency * neck_consistency(follow, neighbours)
    if posed.torso_residual is not None:
        loss = (
            loss + weights.torso_residual * (100 * posed.torso_residual).square().sum(-1).mean()
        )  # square centimetres
    return loss
