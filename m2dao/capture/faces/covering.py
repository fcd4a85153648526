"""Finds what covers the face, because it looks unlike what is usually there.

Shapes: N frames looked at, patches of 18 x 16 cells.
"""

from __future__ import annotations

import cv2
import numpy as np

from m2dao.regions import FACE_OVAL, LEFT_EYE_OUTER, NOSE_BASE, RIGHT_EYE_OUTER

# Outer eye corners and the base of the nose: where no expression moves anything.
_POINTS = (RIGHT_EYE_OUTER, LEFT_EYE_OUTER, NOSE_BASE)
_PLACES = np.array([[18, 24], [46, 24], [32, 44]], np.float32)
_DRAWN, _CELLS = (64, 72), (16, 18)  # width, height
# How far from its usual colour a cell must be, in grey levels and in its own spread.
_ODD_LEVELS, _ODD_SPREADS = 24.0, 6.0
_LIGHTNESS_SCALE = 2.55  # pictures store lightness 0..100 as 0..255, and both colour axes as they are
_SPREAD_PERCENT, _SPREAD_GAIN = 30, 1.75  # a spread as of half the frames, from a share that nothing covers for sure
_EYES = slice(3, 9), slice(3, 13)  # rows and columns with brows, lids and lenses before them
_MOUTH = slice(12, 16), slice(5, 11)
# Cells of the face itself, whatever pose: hair and background beside it come and go.
_ROWS, _COLUMNS = np.mgrid[0:18, 0:16] + 0.5
_OVAL = ((_COLUMNS - 8.0) / 5.2) ** 2 + ((_ROWS - 9.8) / 8.0) ** 2 < 1
_MOSTLY = 0.75
_ON_FACE = 230  # of 255: a cell that is face all over
_CHEEKS = slice(8, 11), [3, 4, 5, 10, 11, 12]
_LID_LEVELS = 32.0  # how much a closed lid may differ from the cheeks
_GLARE_LEVELS, _GLARE_OVER_SKIN = 30.0, 15.0  # brighter than usual, and than the cheeks
_MOST_ASIDE = 0.34  # where along the line of the eyes the nose's base may be: further, the face is turned away


def is_frontal(landmarks: np.ndarray) -> bool:
    """Whether a face [478, 3] looks to the camera, so that its patch can be compared with others."""
    right, left, nose = (landmarks[point, :2] for point in _POINTS)
    across = left - right
    along = (nose - right) @ across / max(across @ across, 1e-6)
    return bool(_MOST_ASIDE < along < 1 - _MOST_ASIDE)


def face_patch(rgb: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face turned upright and made small: uint8 [18, 16, 4], Lab and how much of each cell is face.

    Args:
        rgb: uint8 [H, W, 3].
        landmarks: [478, 3] px of it.
    """
    turn = cv2.getAffineTransform(landmarks[list(_POINTS), :2].astype(np.float32), _PLACES)
    drawn = cv2.warpAffine(rgb, turn, _DRAWN, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    colours = cv2.cvtColor(cv2.resize(drawn, _CELLS, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    outline = landmarks[list(FACE_OVAL), :2] @ turn[:, :2].T + turn[:, 2]
    face = np.zeros(_DRAWN[::-1], np.uint8)
    cv2.fillPoly(face, [np.round(outline).astype(np.int32)], 255)
    return np.dstack([colours, cv2.resize(face, _CELLS, interpolation=cv2.INTER_AREA)])


def covered_share(patches: np.ndarray) -> np.ndarray:
    """The largest connected part of each face unlike the others: patches [N, 18, 16, 4] -> [N] in 0..1.

    A face that turns or speaks differs in thin places, here and there; what comes before it covers a piece. Lids that
    stay closed have the colour of skin, and a mouth that is wide open is a mouth: neither covers anything.
    """
    on_face = patches[..., 3] > _ON_FACE
    patches = patches[..., :3].astype(np.float32)
    away = np.abs(patches - np.median(patches, axis=0))
    away[..., 1:] *= _LIGHTNESS_SCALE  # grey foam before skin is as light as it, and of another colour
    away = away.max(axis=-1)
    spread = _SPREAD_GAIN * np.percentile(away, _SPREAD_PERCENT, axis=0)
    odd = away > np.maximum(_ODD_SPREADS * spread, _ODD_LEVELS)
    eyes = patches[:, *_EYES]
    lids = np.abs(eyes - _skin(patches)[:, None, None]).max(axis=-1) < _LID_LEVELS
    odd[:, *_EYES] &= ~lids
    return np.array([_largest_part(cells, without=(_EYES, _MOUTH)) for cells in odd & on_face & _OVAL], np.float32)


def glare_share(patches: np.ndarray) -> np.ndarray:
    """The largest far too bright part before the eyes: patches [N, 18, 16, 4] -> [N] in 0..1."""
    luma = patches[..., 0].astype(np.float32)
    brighter = luma - np.median(luma, axis=0) > _GLARE_LEVELS
    brighter &= luma > _skin(patches[..., :3].astype(np.float32))[:, None, None, 0] + _GLARE_OVER_SKIN
    cells = np.zeros(luma.shape, bool)
    cells[:, *_EYES] = brighter[:, *_EYES] & (patches[:, *_EYES, 3] > _ON_FACE)
    return np.array([_largest_part(each) for each in cells], np.float32)


def _skin(patches: np.ndarray) -> np.ndarray:
    """[N, 3] colour of the cheeks."""
    return np.median(patches[:, *_CHEEKS].reshape(len(patches), -1, 3), axis=1)


def _largest_part(cells: np.ndarray, without: tuple[tuple[slice, slice], ...] = ()) -> float:
    """Area of the largest connected part of bool [18, 16], as a share of the face.

    Args:
        without: places, rows and columns; parts that lie mostly in one of them do not count.
    """
    number, parts, measures, _ = cv2.connectedComponentsWithStats(cells.astype(np.uint8), connectivity=4)
    areas = measures[:, cv2.CC_STAT_AREA].copy()
    counts = np.ones(number, bool)
    counts[0] = False  # the rest of the face
    for place in without:
        counts &= np.bincount(parts[place].ravel(), minlength=number) < _MOSTLY * areas
    return float(areas[counts].max(initial=0) / _OVAL.sum())
