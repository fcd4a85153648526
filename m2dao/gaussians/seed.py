"""Seeds Gaussians: lifts a frame's pixels onto face mesh, head volume and torso sheet.

Random seeds need thousands of steps to find the surface. Here every pixel of the head gets a depth at once: inside the
landmark hull by interpolation, outside it by bending back from the nearest landmark, as skulls and hair do.
Shapes: H x W pixels, N seeds, L = 478 landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from m2dao.errors import CaptureRejected
from m2dao.gaussians.surface import surface_depth
from m2dao.gaussians.sweep import sweep_depths
from m2dao.gaussians.views import SeedView, unproject
from m2dao.regions import BETWEEN_BROWS, CHIN, FACIAL, HEAD, INNER_LIP_PAIRS, ORAL, OUTER_LIP_CORNERS, TORSO, WHOLE_HEAD

_TORSO_BEHIND_M = 0.12  # the torso sheet's distance behind the head's origin: always hidden by the head
_BEYOND_EDGE = 0.06  # of the picture's size, how far the torso goes on outside it
_INNER_MOUTH_BEHIND_M = 0.010  # teeth behind the lips


@dataclass(frozen=True, kw_only=True)
class SeedPoints:
    """Seeds of one group."""

    means: torch.Tensor  # [N, 3] metres
    rgb: torch.Tensor  # [N, 3] 0..1
    scale_m: torch.Tensor  # [N] metres
    tags: torch.Tensor  # [N] uint8; for the torso all zero
    follow: torch.Tensor | None = None  # [N] 0..1, torso only


def seed_head(
    view: SeedView,
    others: list[SeedView],
    K: np.ndarray,
    canonical: np.ndarray,
    *,
    num_seeds: int,
    region: str,
    tag_of: dict[str, int],
) -> SeedPoints:
    """Lift head pixels into head space.

    Args:
        view: the reference frame, face to the camera.
        others: frames of other poses, which say how deep hair and ears lie.
        K: [3, 3] for its size.
        canonical: [L, 3] landmarks in head space.
        num_seeds: about how many.
        region: ``facial`` (skin and hair) or ``oral`` (lips).
        tag_of: tag numbers for ``skin``, ``hair`` and ``lips``.

    Raises:
        CaptureRejected: the region is empty in the reference frame.
    """
    masks = view.masks
    weight = masks[..., ORAL] if region == "oral" else masks[..., FACIAL] + masks[..., HEAD]
    pixels, stride = _grid_pixels(weight > 0.4, num_seeds, f"{region} region of the reference frame")
    depth, freedom_m = surface_depth(pixels, view.viewmat, K, canonical)
    depth = sweep_depths(pixels, depth, freedom_m, view, others, K)
    camera_points = unproject(pixels, depth, K)
    rotation, translation = view.viewmat[:3, :3], view.viewmat[:3, 3]
    rows, cols = pixels[:, 1].astype(int), pixels[:, 0].astype(int)
    if region == "oral":
        tags = np.full(len(pixels), tag_of["lips"])
    else:
        is_hair = masks[rows, cols, HEAD] > masks[rows, cols, FACIAL]
        tags = np.where(is_hair, tag_of["hair"], tag_of["skin"])
    return SeedPoints(
        means=torch.from_numpy((camera_points - translation) @ rotation).float(),
        rgb=torch.from_numpy(view.rgb[rows, cols]).float(),
        scale_m=torch.from_numpy(0.55 * stride * depth / K[0, 0]).float(),
        tags=torch.from_numpy(tags).to(torch.uint8),
    )


def seed_inner_mouth(
    open_view: SeedView,
    K: np.ndarray,
    canonical: np.ndarray,
    opening_m: float,
    *,
    num_seeds: int,
    tag: int,
    tag_above: int,
) -> SeedPoints:
    """A sheet behind the lips, coloured by the frame in which the mouth is widest open.

    Args:
        open_view: that frame.
        K: [3, 3] for its size.
        canonical: [L, 3] landmarks in head space.
        opening_m: the widest gap between the inner lips, metres.
        num_seeds: about how many.
        tag: their tag number.
        tag_above: the tag number of those behind the upper lip, where the upper teeth are.
    """
    top, bottom = INNER_LIP_PAIRS[0]
    left, right = canonical[list(OUTER_LIP_CORNERS)]
    center = (canonical[top] + canonical[bottom]) / 2
    width = 0.8 * np.linalg.norm(right - left)
    height = max(opening_m * 1.3, 0.012)
    cols = max(2, int(np.sqrt(num_seeds * width / height)))
    rows = max(2, num_seeds // cols)
    u, v = np.meshgrid(np.linspace(-0.5, 0.5, cols), np.linspace(-0.35, 0.65, rows))
    means = np.stack([u * width, v * height, np.zeros_like(u)], axis=-1).reshape(-1, 3) + center
    # The dental arch: deeper to the sides.
    means[:, 2] += _INNER_MOUTH_BEHIND_M + 0.3 * np.abs(u.ravel() * width)
    projected = (means @ open_view.viewmat[:3, :3].T + open_view.viewmat[:3, 3]) @ K.T
    pixels = np.round(projected[:, :2] / projected[:, 2:] - 0.5).astype(int)
    size = open_view.rgb.shape
    pixels = np.clip(pixels, 0, [size[1] - 1, size[0] - 1])
    return SeedPoints(
        means=torch.from_numpy(means).float(),
        rgb=torch.from_numpy(open_view.rgb[pixels[:, 1], pixels[:, 0]]).float(),
        scale_m=torch.full((len(means),), float(0.6 * width / cols)),
        tags=torch.from_numpy(np.where(v.ravel() < 0, tag_above, tag)).to(torch.uint8),
    )


def seed_torso(
    reference: SeedView, others: list[SeedView], K: np.ndarray, canonical: np.ndarray, *, num_seeds: int
) -> SeedPoints:
    """A sheet of torso pixels behind the head, continued behind the chin so that no gap opens.

    Args:
        reference: the frame at whose pose the torso is canonical.
        others: frames that may show what the head hides there.
        K: [3, 3] for their size.
        canonical: [L, 3] landmarks in head space.
        num_seeds: about how many.

    Returns:
        Seeds in camera space with their weight in the head's motion.

    Raises:
        CaptureRejected: no torso is to be seen.
    """
    rgb, seen = reference.rgb.copy(), reference.masks[..., TORSO].copy()
    for other in others:
        better = other.masks[..., TORSO] > np.maximum(seen, 0.5)
        rgb[better], seen[better] = other.rgb[better], other.masks[better][:, TORSO]
    sure = seen > 0.6
    if sure.sum() < 16:
        raise CaptureRejected(
            "torso region", "shoulders and neck in the picture", "almost none", "film from the chest up"
        )
    distance, nearest = distance_transform_edt(~sure, return_indices=True)
    camera = canonical @ reference.viewmat[:3, :3].T + reference.viewmat[:3, 3]
    marks = (camera @ K.T)[:, :2] / camera[:, 2:]
    face_height = marks[CHIN, 1] - marks[BETWEEN_BROWS, 1]
    hidden = reference.masks[..., WHOLE_HEAD].sum(-1) > 0.5
    extended = sure | (seen > 0.3) | (hidden & (distance < 0.25 * face_height))
    # A torso that moves up or aside must not end where the picture did: it goes on beyond left, right and lower edge.
    beyond = round(_BEYOND_EDGE * len(extended))
    widened = np.pad(extended, ((0, beyond), (beyond, beyond)), mode="edge")
    pixels, stride = _grid_pixels(widened, num_seeds, "torso region")
    pixels = pixels - [beyond, 0]
    height, width = extended.shape
    rows, cols = np.clip(pixels[:, 1].astype(int), 0, height - 1), np.clip(pixels[:, 0].astype(int), 0, width - 1)
    source = nearest[:, rows, cols]
    depth = np.full(len(pixels), reference.viewmat[2, 3] + _TORSO_BEHIND_M)
    down = (pixels[:, 1] - marks[CHIN, 1]) / (0.6 * face_height)
    aside = np.abs(pixels[:, 0] - marks[CHIN, 0]) / face_height
    follow = np.clip(1 - down, 0, 1) * np.clip(1.6 - 1.6 * aside, 0, 1)
    return SeedPoints(
        means=torch.from_numpy(unproject(pixels, depth, K)).float(),
        rgb=torch.from_numpy(rgb[source[0], source[1]]).float(),
        scale_m=torch.from_numpy(0.55 * stride * depth / K[0, 0]).float(),
        tags=torch.zeros(len(pixels), dtype=torch.uint8),
        follow=torch.from_numpy(np.clip(follow, 0.02, 0.98)).float(),
    )


def _grid_pixels(inside: np.ndarray, num: int, name: str) -> tuple[np.ndarray, float]:
    """About ``num`` pixel centres [N, 2] (x, y) on a staggered grid inside a mask, and its stride in px."""
    area = int(inside.sum())
    if area < 8:
        raise CaptureRejected(name, "a region that can be seen", f"{area} pixels")
    stride = max(0.5, float(np.sqrt(area / num)))
    height, width = inside.shape
    y, x = np.meshgrid(np.arange(stride / 2, height, stride), np.arange(stride / 2, width, stride), indexing="ij")
    x = x + np.where(np.arange(len(y)) % 2, stride / 4, -stride / 4)[:, None]
    pixels = np.stack([x.ravel(), y.ravel()], axis=-1)
    pixels = np.clip(pixels, 0, [width - 1e-3, height - 1e-3])
    return pixels[inside[pixels[:, 1].astype(int), pixels[:, 0].astype(int)]], stride
