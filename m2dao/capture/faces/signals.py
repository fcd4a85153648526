"""Measures what the face does on its landmarks: blinks, brows, gaze, lip opening.

Everything is a ratio to the distance of the outer eye corners, taken in three dimensions, so a head that turns or
comes closer does not look like one that blinks or speaks. Left and right are those of the person shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from m2dao.capture.faces.models import BLENDSHAPE_NAMES
from m2dao.capture.rotations import unit
from m2dao.regions import (
    CHIN,
    FOREHEAD,
    INNER_LIP_CORNERS,
    INNER_LIP_PAIRS,
    LEFT_BROW,
    LEFT_EYE_INNER,
    LEFT_EYE_OUTER,
    LEFT_IRIS,
    LEFT_LID_PAIRS,
    RIGHT_BROW,
    RIGHT_EYE_INNER,
    RIGHT_EYE_OUTER,
    RIGHT_IRIS,
    RIGHT_LID_PAIRS,
)
from m2dao.timeline import split_recording

EXPRESSION_NAMES = (
    "blink_left",
    "blink_right",
    "brow_raise_left",
    "brow_raise_right",
    "brow_down",
    "eye_squint",
    "gaze_across",
    "gaze_down",
)

LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS = (LEFT_EYE_INNER, LEFT_EYE_OUTER), (RIGHT_EYE_OUTER, RIGHT_EYE_INNER)
# Lower rim first: the order in which float32 numbers are added up decides the last bit of a capture.
_LEFT_BROW, _RIGHT_BROW = (ring[5:] + ring[4::-1] for ring in (LEFT_BROW, RIGHT_BROW))

# A closed lid still shows a gap of about this share of the open one: lashes and the rim itself.
CLOSED_SHARE = 0.30
BROW_RANGE = 0.08  # eye distances between a resting brow and one raised all the way
GAZE_RANGE = 0.25  # half eye widths that an iris moves in a wide glance
_UNSEEN_IRIS = 0.6  # share of a closing lid from which the iris is a guess


@dataclass(frozen=True, kw_only=True)
class Signals:
    """Signals of a recording of T frames, float32.

    Attributes:
        lip_opening: [T] gap between the inner lips over the distance of the outer eye corners; 0 is closed.
        lip_width: [T] distance of the inner lip corners in the same unit.
        blink: [T, 2] left and right, 0 open to 1 closed, relative to how this person's eyes usually are.
        expression: [T, 8] in the order of EXPRESSION_NAMES; gaze is to the picture's right and down, 1 in a wide
            glance.
    """

    lip_opening: np.ndarray
    lip_width: np.ndarray
    blink: np.ndarray
    expression: np.ndarray


def measure_signals(landmarks: np.ndarray, blendshapes: np.ndarray) -> Signals:
    """Measure the signals of a recording.

    Args:
        landmarks: float [T, 478, 3] px, z in the unit of x.
        blendshapes: float [T, 52].

    What is usual for the person is that of the training part.
    """
    landmarks = np.asarray(landmarks, np.float64)
    eye_distance = _distance(landmarks, RIGHT_EYE_OUTER, LEFT_EYE_OUTER)
    lip_opening = _mean_gap(landmarks, INNER_LIP_PAIRS) / eye_distance
    lip_width = _distance(landmarks, *INNER_LIP_CORNERS) / eye_distance
    blink = np.stack(
        [
            _closedness(_mean_gap(landmarks, LEFT_LID_PAIRS) / _distance(landmarks, *LEFT_EYE_CORNERS)),
            _closedness(_mean_gap(landmarks, RIGHT_LID_PAIRS) / _distance(landmarks, *RIGHT_EYE_CORNERS)),
        ],
        axis=1,
    )
    raises = [
        _brow_raise(landmarks, _LEFT_BROW, LEFT_EYE_CORNERS, eye_distance),
        _brow_raise(landmarks, _RIGHT_BROW, RIGHT_EYE_CORNERS, eye_distance),
    ]
    brow_down = _blendshape_mean(blendshapes, "browDownLeft", "browDownRight")
    eye_squint = _blendshape_mean(blendshapes, "eyeSquintLeft", "eyeSquintRight")
    gaze = _gaze(landmarks, blink)
    expression = np.stack([blink[:, 0], blink[:, 1], *raises, brow_down, eye_squint, *gaze], axis=1)
    return Signals(
        lip_opening=lip_opening.astype(np.float32),
        lip_width=lip_width.astype(np.float32),
        blink=blink.astype(np.float32),
        expression=expression.astype(np.float32),
    )


def _distance(landmarks: np.ndarray, one: int, other: int) -> np.ndarray:
    """[T] distance of two landmarks in three dimensions."""
    return np.maximum(np.linalg.norm(landmarks[:, one] - landmarks[:, other], axis=-1), 1e-6)


def _mean_gap(landmarks: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    """[T] mean distance over pairs of points, measured along the picture's own vertical of the face.

    Points of closed lips keep a small sideways distance of their own, which is no opening; so only the part along the
    face's up direction counts, and lips that the model lets overlap count as closed.
    """
    upper, lower = (list(points) for points in zip(*pairs, strict=True))
    _, down = _face_axes(landmarks)
    gaps = ((landmarks[:, lower] - landmarks[:, upper]) * down[:, None]).sum(-1)
    return np.maximum(gaps, 0.0).mean(1)


def _face_axes(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions across the face, to the picture's right, and down it: two arrays [T, 3]."""
    across = unit(landmarks[:, LEFT_EYE_OUTER] - landmarks[:, RIGHT_EYE_OUTER])
    down = landmarks[:, CHIN] - landmarks[:, FOREHEAD]
    return across, unit(down - (down * across).sum(-1, keepdims=True) * across)


def _gaze(landmarks: np.ndarray, blink: np.ndarray) -> list[np.ndarray]:
    """How far both irises are from where they usually are, across and down, in GAZE_RANGE: two arrays [T].

    Where lids hide them, they move evenly from where they were to where they come up again. Single odd frames do not
    count.
    """
    offsets = []
    for iris, (one, other) in ((LEFT_IRIS, LEFT_EYE_CORNERS), (RIGHT_IRIS, RIGHT_EYE_CORNERS)):
        half_width = _distance(landmarks, one, other)[:, None] / 2
        offsets.append((landmarks[:, iris] - (landmarks[:, one] + landmarks[:, other]) / 2) / half_width)
    offset = np.mean(offsets, axis=0)
    seen = np.flatnonzero(blink.max(axis=1) < _UNSEEN_IRIS)
    gaze = []
    for axis in _face_axes(landmarks):
        value = (offset * axis).sum(-1)
        if len(seen):
            value = median_filter(np.interp(np.arange(len(value)), seen, value[seen]), 3, mode="nearest")
        gaze.append(np.clip((value - np.median(_training_part(value))) / GAZE_RANGE, -1.0, 1.0))
    return gaze


def _training_part(values: np.ndarray) -> np.ndarray:
    """The frames of [T, ...] that a fit learns from; all where there are too few to tell."""
    return values[: max(1, len(split_recording(len(values)).train))]


def _closedness(openness: np.ndarray) -> np.ndarray:
    """[T] 0..1 from lid gaps [T]: relative to how far this person's eye is open most of the time."""
    usual = float(np.percentile(_training_part(openness), 70))
    closed = CLOSED_SHARE * usual
    return np.clip((usual - openness) / max(usual - closed, 1e-6), 0.0, 1.0)


def _brow_raise(
    landmarks: np.ndarray, brow: tuple[int, ...], corners: tuple[int, int], eye_distance: np.ndarray
) -> np.ndarray:
    """[T] -1..1: the brow's height over its eye corners, which lids do not move, against its usual one."""
    height = np.linalg.norm(landmarks[:, list(brow)].mean(1) - landmarks[:, list(corners)].mean(1), axis=-1)
    relative = height / eye_distance
    return np.clip((relative - np.median(_training_part(relative))) / BROW_RANGE, -1.0, 1.0)


def _blendshape_mean(blendshapes: np.ndarray, *names: str) -> np.ndarray:
    return np.asarray(blendshapes, np.float64)[:, [BLENDSHAPE_NAMES.index(name) for name in names]].mean(1)
