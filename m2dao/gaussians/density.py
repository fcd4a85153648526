"""Density control: adds Gaussians where the picture asks for more, and prunes useless ones.

The rule is that of 3D Gaussian splatting (Kerbl et al., 2023, section 5.2): a Gaussian whose screen position wants to
move much stands for too much surface. A small one is cloned, a large one is split in two; the transparent and the huge
are pruned. A hard cap bounds the size of an identity. It works on raw tensors alone, so it is the same for every
backend.
Shapes: N Gaussians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from m2dao.errors import ConfigError
from m2dao.gaussians.params import GaussianParams

_SPLIT_SHRINK = 1.6  # Kerbl et al., section 5.2


@dataclass(frozen=True, kw_only=True)
class DensityConfig:
    """When to grow and prune.

    Args:
        max_gaussians: hard cap of the group.
        grow_fraction: at most this share of a group is cloned or split at once.
        grad_threshold: mean screen gradient, in loss per half image, above which a Gaussian grows.
        split_scale_m: larger Gaussians are split, smaller ones cloned.
        min_opacity: below it a Gaussian is pruned.
        max_scale_m: above it a Gaussian is pruned.
        correct_opacity: whether a clone and its parent together cover what the parent did (Bulo et al., 2024); else
            both keep its opacity, as first published.
    """

    max_gaussians: int
    grow_fraction: float = 0.05
    grad_threshold: float = 5e-5
    split_scale_m: float = 0.004
    min_opacity: float = 0.02
    max_scale_m: float = 0.05
    correct_opacity: bool = True

    def __post_init__(self):
        if self.max_gaussians < 1:
            raise ConfigError("density max_gaussians", "at least 1", str(self.max_gaussians))
        if not 0 <= self.grow_fraction <= 1:
            raise ConfigError("density grow_fraction", "0 to 1", str(self.grow_fraction))


class ScreenGradients:
    """Running mean of screen-space gradient norms of one group."""

    def __init__(self, num: int, device: torch.device | None = None):
        self.total = torch.zeros(num, device=device)
        self.count = torch.zeros(num, device=device)

    def add(self, gradient: Tensor, visible: Tensor, half_image_px: float) -> None:
        """One frame.

        Args:
            gradient: [N, 2] of the loss by the screen position, per pixel.
            visible: [N] bool; gradients that are not numbers do not count either.
            half_image_px: half the image's width, to make the norm independent of the resolution.
        """
        norm = gradient.norm(dim=-1) * half_image_px
        counts = visible & norm.isfinite()
        self.total += torch.where(counts, norm, 0.0)
        self.count += counts

    def mean(self) -> Tensor:
        return self.total / self.count.clamp_min(1)


@dataclass(frozen=True, kw_only=True)
class DensityChange:
    """Which rows of the old group make the new one, and what changes in them."""

    rows: Tensor  # [N_new] int64 row of the old group each new Gaussian comes from
    fresh: Tensor  # [N_new] bool: its optimiser state must be forgotten
    raw: dict[str, Tensor]  # new raw parameters


def control_density(
    group: GaussianParams, gradients: ScreenGradients, config: DensityConfig, generator: torch.Generator
) -> DensityChange:
    """Decide one round of growing and pruning; the group itself is left alone.

    Args:
        group: the Gaussians.
        gradients: collected since the last round.
        config: thresholds and cap.
        generator: of the CPU, source of the split offsets, so that a resumed fit repeats them.
    """
    device = group.tags.device
    raw = {name: value.detach() for name, value in group.raw.items()}
    largest = raw["scales"].exp().amax(dim=-1)
    keep = (raw["opacities"].sigmoid() > config.min_opacity) & (largest < config.max_scale_m)
    room = max(0, config.max_gaussians - int(keep.sum()))
    budget = min(room, int(config.grow_fraction * len(group)) + 1)
    score = torch.where(keep, gradients.mean(), 0.0)
    chosen = torch.argsort(score, descending=True, stable=True)[:budget]
    chosen = chosen[score[chosen] > config.grad_threshold]
    kept = torch.nonzero(keep)[:, 0]
    rows = torch.cat([kept, chosen])
    new = {name: value[rows].clone() for name, value in raw.items()}
    fresh = torch.zeros(len(rows), dtype=torch.bool, device=device)
    fresh[len(kept) :] = True
    # A split moves parent and child apart along the Gaussian's own axes and shrinks both.
    position = torch.full((len(group),), -1, dtype=torch.int64, device=device)
    position[kept] = torch.arange(len(kept), device=device)
    children = len(kept) + torch.arange(len(chosen), device=device)
    parents = position[chosen]
    big = largest[chosen] > config.split_scale_m
    offsets = torch.randn(len(chosen), 3, generator=generator).to(device) * raw["scales"][chosen].exp()
    offsets = rotate_by_quats(raw["quats"][chosen], offsets) * torch.where(big, 0.7, 0.2)[:, None]
    new["means"][children] += offsets
    new["means"][parents[big]] -= offsets[big]
    shrink = math.log(_SPLIT_SHRINK)
    new["scales"][children[big]] -= shrink
    new["scales"][parents[big]] -= shrink
    fresh[parents[big]] = True
    if config.correct_opacity:
        for clones in (children[~big], parents[~big]):
            new["opacities"][clones] = _halved(new["opacities"][clones])
    return DensityChange(rows=rows, fresh=fresh, raw=new)


def _halved(logits: Tensor) -> Tensor:
    """Logits of an opacity that covers as much when drawn twice: 1 - sqrt(1 - a)."""
    opacity = 1 - (1 - logits.sigmoid()).sqrt()
    return torch.logit(opacity.clamp(1e-6, 1 - 1e-6))


def rotate_by_quats(quats: Tensor, vectors: Tensor) -> Tensor:
    """Rotate vectors by (not necessarily unit) quaternions: [N, 4], [N, 3] -> [N, 3]."""
    unit = torch.nn.functional.normalize(quats, dim=-1)
    axis = unit[:, 1:]
    twice = 2 * torch.linalg.cross(axis, vectors)
    return vectors + unit[:, :1] * twice + torch.linalg.cross(axis, twice)
