"""Finds what covers the face, because it looks unlike what is usually there.

Shapes: N frames looked at, patches of 18 x 16 cells.
"""

from __future__ import annotations

import cv2
import numpy as np

from m2dao.regions import LEFT_EYE_OUTER, NOSE_BASE, RIGHT_EYE_OUTER

# Outer eye corners and the base of the nose: where no expression moves anything.
_POINTS = (RIGHT_EYE_OUTER, LEFT_EYE_OUTER, NOSE_BASE)
_PLACES = np.array([[18, 24], [46, 24], [32, 44]], np.float32)
_DRAWN, _CELLS = (64, 72), (16, 18)  # width, height
# How far from its usual colour a cell must be, in grey levels and in its own spread.
_ODD_LEVELS, _ODD_SPREADS = 20.0, 6.0


def face_patch(rgb: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face turned upright and made small: uint8 [18, 16, 3], Lab.

    Args:
        rgb: uint8 [H, W, 3].
        landmarks: [478, 3] px of it.
    """
    turn = cv2.getAffineTransform(landmarks[list(_POINTS), :2].astype(np.float32), _PLACES)
    drawn = cv2.warpAffine(rgb, turn, _DRAWN, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.cvtColor(cv2.resize(drawn, _CELLS, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)


def covered_share(patches: np.ndarray) -> np.ndarray:
    """The largest connected part of each patch unlike the others: [N, 18, 16, 3] -> [N] in 0..1.

    A face that turns or speaks differs in thin places, here and there; what comes before it covers a piece.
    """
    patches = patches.astype(np.float32)
    away = np.abs(patches - np.median(patches, axis=0)).max(axis=-1)
    odd = away > np.maximum(_ODD_SPREADS * np.median(away, axis=0), _ODD_LEVELS)
    return np.array([_largest_part(cells.astype(np.uint8)) for cells in odd], np.float32)


def _largest_part(cells: np.ndarray) -> float:
    number, _, parts, _ = cv2.connectedComponentsWithStats(cells, connectivity=4)
    return parts[1:, cv2.CC_STAT_AREA].max() / cells.size if number > 1 else 0.0
