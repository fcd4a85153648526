"""The clean background plate: the recording without the person."""

from __future__ import annotations

import cv2
import numpy as np

from m2dao.errors import CaptureRejected

CLEARANCE = (
    0.012  # of the picture's width: background nearer to the person than this is not trusted (shadow, loose hair)
)
_NEARLY_EMPTY = 3  # alpha (0..255) up to which a pixel counts as background


class PlateBuilder:
    """Collects the background over a recording in constant memory.

    Every pixel's plate is its mean over the frames in which it was background. What was never seen is filled
    smoothly from its surroundings, coarse to fine (push-pull, Gortler et al. 1996).

    Args:
        clearance: how near to the person background counts, in widths of the picture.
    """

    def __init__(self, clearance: float = CLEARANCE) -> None:
        self._clearance = clearance
        self._sum: np.ndarray | None = None  # float32 [H, W, 3]
        self._weight: np.ndarray | None = None  # float32 [H, W]

    def add(self, rgb: np.ndarray, masks: np.ndarray) -> None:
        """Add one frame.

        Args:
            rgb: uint8 [H, W, 3].
            masks: uint8 [H, W, 4] region masks of the frame.
        """
        if self._sum is None or self._weight is None:
            self._sum = np.zeros(rgb.shape, dtype=np.float32)
            self._weight = np.zeros(rgb.shape[:2], dtype=np.float32)
        person = cv2.transform(masks, np.ones((1, masks.shape[2]), dtype=np.float32))
        occupied = (person > _NEARLY_EMPTY).astype(np.uint8)
        radius = round(self._clearance * rgb.shape[1])
        free = cv2.dilate(occupied, np.ones((2 * radius + 1, 2 * radius + 1), dtype=np.uint8)) == 0
        cv2.accumulate(rgb, self._sum, free.astype(np.uint8))
        self._weight += free

    @property
    def seen(self) -> np.ndarray:
        """bool [H, W]: the pixels that were background in some frame."""
        return self._require()[1] > 0

    def finish(self, *others: PlateBuilder) -> np.ndarray:
        """The plate, uint8 [H, W, 3].

        Args:
            others: what they saw stands in, the first's first, where this one never saw the background.

        Raises:
            CaptureRejected: no frame was added.
        """
        total, weight = self._require()
        for other in others:
            other_total, other_weight = other._require()
            unseen = weight == 0
            total = np.where(unseen[..., None], other_total, total)
            weight = np.where(unseen, other_weight, weight)
        filled = _push_pull(total / np.maximum(weight, 1.0)[..., None], np.minimum(weight, 1.0))
        return np.clip(np.round(filled), 0, 255).astype(np.uint8)

    def _require(self) -> tuple[np.ndarray, np.ndarray]:
        if self._sum is None or self._weight is None:
            raise CaptureRejected("background plate", "frames to be added before it is finished", "none")
        return self._sum, self._weight


def _push_pull(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``image`` [H, W, 3] with pixels of weight 0 filled from coarser levels; weight [H, W] in 0..1."""
    height, width = weight.shape
    if min(height, width) <= 1:
        share = weight.sum()
        mean = (image * weight[..., None]).sum(axis=(0, 1)) / share if share > 0 else np.full(3, 127.0)
        return image * weight[..., None] + mean * (1.0 - weight[..., None])
    half = ((width + 1) // 2, (height + 1) // 2)
    small_weight = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    small = (
        cv2.resize(image * weight[..., None], half, interpolation=cv2.INTER_AREA)
        / np.maximum(small_weight, 1e-6)[..., None]
    )
    # A coarse pixel that saw anything at all knows its colour: only emptiness is passed on downwards.
    coarse = _push_pull(small.astype(np.float32), np.minimum(1.0, 4.0 * small_weight))
    rise = cv2.GaussianBlur(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), (0, 0), 1.0)
    return (image * weight[..., None] + rise * (1.0 - weight[..., None])).astype(np.float32)
