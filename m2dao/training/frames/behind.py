"""Finds what stands behind a person in one frame, or behind a head.

Shapes: S pixels a side.
"""

from __future__ import annotations

import cv2
import numpy as np

from m2dao.kernels.compiled import helper, kernel
from m2dao.regions import TORSO

_ANY = np.float32(0.02)  # share of a pixel
_NEIGHBOURHOOD = 0.025  # of the picture's width, half a side
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


def behind_head(rgb: np.ndarray, masks: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """The recording's torso and background with the head taken out.

    Where the head was, the torso's nearest colour is continued if torso is what lies nearest: the protocol of
    TalkingGaussian, whose torso pictures are filled up at the neck in the same way. Else the background shows.

    Args:
        rgb: [S, S, 3] float 0..1.
        masks: [S, S, 4] float 0..1.
        plate: [S, S, 3] float 0..1, the background of the shot.

    Returns:
        [S, S, 3] float 0..1.
    """
    taken = head_taken(masks)
    if not taken.any() or taken.all():
        return plate if taken.any() else rgb
    _, labels = cv2.distanceTransformWithLabels(
        taken.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    free = ~taken
    position_of_label = np.zeros(labels.max() + 1, dtype=np.int64)
    position_of_label[labels[free]] = np.flatnonzero(free)
    nearest = position_of_label[labels]
    near_rgb = rgb.reshape(-1, 3)[nearest]
    near_torso = masks[..., TORSO].ravel()[nearest][..., None]
    filled = near_torso * near_rgb + (1 - near_torso) * _background(rgb, masks, plate, everywhere=True)
    return np.where(taken[..., None], filled, rgb)


def behind_person(rgb: np.ndarray, masks: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """The recording's background with the person taken out; called as :func:`behind_head` is."""
    return _background(rgb, masks, plate, everywhere=False)


def head_taken(masks: np.ndarray) -> np.ndarray:
    """Where a recording shows head and not mainly torso: masks [S, S, 4] float 0..1 -> [S, S] bool."""
    head = masks[..., 0] + masks[..., 1] + masks[..., 2]
    return (head > _ANY) & (head >= masks[..., TORSO])


def _background(rgb: np.ndarray, masks: np.ndarray, plate: np.ndarray, *, everywhere: bool) -> np.ndarray:
    """The plate as it looks in one frame, [S, S, 3], everywhere or only where the person is.

    Backgrounds move and cameras adapt. So the plate takes over how the frame differs from it nearby.
    """
    side = 2 * max(1, round(_NEIGHBOURHOOD * rgb.shape[1])) + 1
    seen = np.empty((*rgb.shape[:2], 4), np.float32)
    _differences(rgb, masks, plate, seen)
    behind = np.empty_like(rgb)
    _adapt(cv2.blur(seen, (side, side)), rgb, masks, plate, everywhere, behind)
    return behind


@helper(inline="always")
def _is_free(masks, y, x):
    return masks[y, x, 0] + masks[y, x, 1] + masks[y, x, 2] + masks[y, x, 3] <= _ANY


@kernel()
def _differences(
    rgb,  # float32 [S, S, 3]
    masks,  # float32 [S, S, 4]
    plate,  # float32 [S, S, 3]
    seen,  # out float32 [S, S, 4]
):
    """How the frame differs from the plate where nobody is, and one there; zeros elsewhere."""
    for y in range(rgb.shape[0]):
        for x in range(rgb.shape[1]):
            free = _ONE if _is_free(masks, y, x) else _ZERO
            for k in range(3):
                seen[y, x, k] = (rgb[y, x, k] - plate[y, x, k]) * free
            seen[y, x, 3] = free


@kernel()
def _adapt(
    near,  # float32 [S, S, 4] means of the differences around each pixel
    rgb,  # float32 [S, S, 3]
    masks,  # float32 [S, S, 4]
    plate,  # float32 [S, S, 3]
    everywhere,  # whether to look for the background where it is seen, too
    behind,  # out float32 [S, S, 3]
):
    """The plate and the mean difference; the frame itself where nobody is, unless everywhere."""
    for y in range(rgb.shape[0]):
        for x in range(rgb.shape[1]):
            if not everywhere and _is_free(masks, y, x):
                for k in range(3):
                    behind[y, x, k] = rgb[y, x, k]
                continue
            weight = max(near[y, x, 3], _ANY)
            for k in range(3):
                behind[y, x, k] = min(max(plate[y, x, k] + near[y, x, k] / weight, _ZERO), _ONE)
