"""Finds depths of seeds by plane sweeping: the depth that other frames agree with.

A head that turns shows its own shape: a point at the right depth lies inside the silhouette and has the same colour in
every frame (space sweeping, Collins, 1996). Neighbours decide together, because single pixels of hair look alike.
Shapes: N seeds, V views, D depths, H x W pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from m2dao.gaussians.surface import decided_together
from m2dao.gaussians.views import SeedView, project, unproject

_NUM_DEPTHS = 13
_BLUR_PX = 1.0  # poses are off by a fraction of a pixel
_AGREEING = 0.6  # share of the views that must see a point; elsewhere something may lie before it
_WORST_COLOR = 0.25  # difference of colour beyond which it does not matter how much
_SILHOUETTE_WEIGHT = 0.5
_PRIOR_WEIGHT = 0.01  # where nothing speaks for another depth, the given one stays


def sweep_depths(
    pixels: np.ndarray,
    depth: np.ndarray,
    freedom_m: np.ndarray,
    reference: SeedView,
    others: list[SeedView],
    K: np.ndarray,
) -> np.ndarray:
    """Better depths of a frame's pixels.

    Args:
        pixels: [N, 2] x, y.
        depth: [N] metres, first guesses.
        freedom_m: [N] metres, how far each may be off.
        reference: the frame.
        others: frames of other poses.
        K: [3, 3] for their size.

    Returns:
        [N] metres.
    """
    if not others or not len(pixels):
        return depth
    steps = np.linspace(-1, 1, _NUM_DEPTHS)
    rotation, translation = reference.viewmat[:3, :3], reference.viewmat[:3, 3]
    candidates = depth[:, None] + freedom_m[:, None] * steps  # [N, D]
    points = unproject(np.repeat(pixels, _NUM_DEPTHS, axis=0), candidates.ravel(), K)
    points = (points - translation) @ rotation  # head space
    own = _sample(reference, pixels)[:, :3]
    colors, silhouettes = [], []
    for view in others:
        seen = _sample(view, project(points, view.viewmat, K)).reshape(len(pixels), _NUM_DEPTHS, 4)
        colors.append(np.minimum(np.abs(seen[..., :3] - own[:, None]).mean(axis=-1), _WORST_COLOR))
        silhouettes.append(1 - seen[..., 3])
    agreeing = np.sort(np.stack(colors), axis=0)[: max(1, round(_AGREEING * len(others)))].mean(axis=0)
    cost = agreeing + _SILHOUETTE_WEIGHT * np.mean(silhouettes, axis=0)  # [N, D]
    prior, rows = _PRIOR_WEIGHT * np.abs(steps), np.arange(len(pixels))
    return decided_together(pixels, cost, lambda mean: candidates[rows, (mean + prior).argmin(axis=1)])


def _sample(view: SeedView, pixels: np.ndarray) -> np.ndarray:
    """Colour and head mask of a view at pixels [P, 2], blurred a little: [P, 4]; zeros outside."""
    layers = np.concatenate([view.rgb, view.masks.sum(-1, keepdims=True)], axis=-1).astype(np.float32)
    picture = torch.from_numpy(cv2.GaussianBlur(layers, (0, 0), _BLUR_PX)).permute(2, 0, 1)[None]
    height, width = view.rgb.shape[:2]
    grid = torch.from_numpy(2 * pixels / [width, height] - 1).float()[None, None]
    return torch.nn.functional.grid_sample(picture, grid, align_corners=False)[0, :, 0].T.numpy()
