"""Guesses head shape and pose from landmarks, and which landmarks move with the skull.

The landmarks carry a depth of their own (in pixels, relative), so scaled-orthographic generalised Procrustes analysis
gives a shape and poses good enough to start a bundle adjustment from. The landmarks that stay still in that shape over
the recording are the rigid ones: they are chosen by measurement, not by a list.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from m2dao.capture.rotations import best_rotation
from m2dao.regions import CHIN, FOREHEAD, IRIS, LEFT_EYE_OUTER, NUM_LANDMARKS, RIGHT_EYE_OUTER

OUTER_EYE_CORNERS = (RIGHT_EYE_OUTER, LEFT_EYE_OUTER)
RIGID_FRACTION = 0.4  # of the surface landmarks; the stillest ones
_ROUNDS = 8
_MAX_SHAPE_FRAMES = 400  # a shape needs no more, spread over the recording
_CHUNK_FRAMES = 2048


@dataclasses.dataclass(frozen=True, kw_only=True)
class RigidShape:
    """Scaled-orthographic fit: landmarks[t] ~ scale[t] * shape @ rotations[t].T + offsets[t]."""

    shape: np.ndarray  # [478, 3], unit: outer eye distance; origin at the rigid centroid
    rotations: np.ndarray  # [T, 3, 3]
    scales: np.ndarray  # [T], pixels per outer eye distance
    offsets: np.ndarray  # [T, 3], pixels
    spread: np.ndarray  # [478], robust standard deviation of each landmark in the shape frame, outer eye distances
    rigid: np.ndarray  # int [R], the landmarks that move with the skull


def fit_rigid_shape(landmarks: np.ndarray, num_learned: int | None = None) -> RigidShape:
    """Fit one shape and a pose per frame, weighting every landmark by how still it is.

    Args:
        landmarks: float [T, 478, 3], pixels; z in the same scale as x.
        num_learned: the shape is that of so many first frames; all if None.
    """
    num_learned = len(landmarks) if num_learned is None else num_learned
    sample = np.unique(np.linspace(0, num_learned - 1, min(num_learned, _MAX_SHAPE_FRAMES)).astype(int))
    shape, spread, weights = _still_shape(landmarks[sample].astype(np.float64))
    rigid = np.sort(np.argsort(spread[: IRIS.start])[: round(RIGID_FRACTION * IRIS.start)])
    chunks = range(0, len(landmarks), _CHUNK_FRAMES)
    parts = [_align(shape, landmarks[i : i + _CHUNK_FRAMES].astype(np.float64), weights) for i in chunks]
    rotations, scales, offsets = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _canonical(shape, rotations, scales, offsets, spread, rigid)


def _still_shape(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean shape [478, 3], spread [478] and weights [478] of a sample of frames [F, 478, 3]."""
    weights = np.ones(NUM_LANDMARKS)
    weights[IRIS] = 0.0
    left, right = OUTER_EYE_CORNERS
    shape = np.median(landmarks - landmarks.mean(axis=1, keepdims=True), axis=0)
    shape /= np.linalg.norm(shape[left] - shape[right])
    for _ in range(_ROUNDS):
        rotations, scales, offsets = _align(shape, landmarks, weights)
        aligned = (landmarks - offsets[:, None]) @ rotations / scales[:, None, None]
        shape = np.median(aligned, axis=0)
        residual = np.linalg.norm(aligned[..., :2] - shape[None, :, :2], axis=-1)
        spread = 1.2 * np.median(residual, axis=0) + 1e-6
        floor = np.quantile(spread[: IRIS.start], 0.1)
        weights = 1.0 / np.maximum(spread, floor) ** 2
        weights[IRIS] = 0.0
    return shape, spread, weights


def _align(shape: np.ndarray, landmarks: np.ndarray, weights: np.ndarray):
    """Best rotation, scale and offset from ``shape`` [478, 3] to each frame of ``landmarks`` [T, 478, 3]."""
    w = weights / weights.sum()
    shape_mean = w @ shape
    centred_shape = shape - shape_mean
    frame_mean = w @ landmarks
    centred = landmarks - frame_mean[:, None]
    correlation = np.swapaxes(centred, 1, 2) @ (w[:, None] * centred_shape)
    rotations = best_rotation(correlation)
    scales = np.einsum("tab,tab->t", rotations, correlation) / np.einsum("j,jc,jc->", w, centred_shape, centred_shape)
    offsets = frame_mean - scales[:, None] * (rotations @ shape_mean)
    return rotations, scales, offsets


def _canonical(shape, rotations, scales, offsets, spread, rigid) -> RigidShape:
    """Move the origin to the rigid centroid, turn to the camera and make the outer eye distance one."""
    turn, centre, size = frontal_frame(shape, rigid)
    new_shape = (shape - centre) @ turn.T / size
    new_rotations = rotations @ turn.T
    new_offsets = offsets + scales[:, None] * (rotations @ centre)
    return RigidShape(
        shape=new_shape,
        rotations=new_rotations,
        scales=scales * size,
        offsets=new_offsets,
        spread=spread / size,
        rigid=rigid,
    )


def frontal_frame(shape: np.ndarray, rigid: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation, centre and unit of the head frame of a shape.

    x runs along the outer eye corners (to the image right of a frontal face); the line from forehead to chin, made
    perpendicular to x, is y. The chin moves, but its median over a recording does not, and a tilt common to all frames
    has no effect on anything but what "frontal" means.

    Returns:
        rotation [3, 3] with ``(p - centre) @ rotation.T / unit`` in the head frame, centre [3], unit (outer eye
        distance).
    """
    left, right = OUTER_EYE_CORNERS
    across = shape[right] - shape[left]
    size = float(np.linalg.norm(across))
    x = across / size
    down = shape[CHIN] - shape[FOREHEAD]
    down = down - x * (down @ x)
    y = down / np.linalg.norm(down)
    return np.stack([x, y, np.cross(x, y)]), shape[rigid].mean(axis=0), size
