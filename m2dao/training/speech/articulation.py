"""Turns lip landmarks without head motion into a few numbers a frame.

Shapes: T frames, P mouth points, A components.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from m2dao.capture.dataset import Capture
from m2dao.regions import BESIDE_CHIN, CHIN, INNER_LIPS, OUTER_LIPS

# Both lip contours, each rim from right to left, and the chin. The order is part of stored articulations.
_MOUTH_POINTS = (
    *(*OUTER_LIPS[:11], *OUTER_LIPS[:10:-1]),
    *(*INNER_LIPS[:11], *INNER_LIPS[:10:-1]),
    *(CHIN, *BESIDE_CHIN),
)
SHAPE_SIZE = 2 * len(_MOUTH_POINTS)


def mouth_shapes(capture: Capture) -> np.ndarray:
    """Mouth points in head space: [T, 2 P] float64 metres, x and y in turn.

    Each landmark's ray is cut with the depth its canonical point has in that frame.
    """
    points = np.array(_MOUTH_POINTS)
    K, canonical = capture.K, capture.canonical_landmarks
    rotation, translation = capture.viewmats[:, :3, :3], capture.viewmats[:, None, :3, 3]
    depth = (np.einsum("tij,pj->tpi", rotation, canonical[points]) + translation)[..., 2]  # [T, P]
    x = (capture.landmarks[:, points, 0] - K[0, 2]) / K[0, 0] * depth
    y = (capture.landmarks[:, points, 1] - K[1, 2]) / K[1, 1] * depth
    camera = np.stack([x, y, depth], axis=-1)
    local = np.einsum("tpi,tij->tpj", camera - translation, rotation)[..., :2]
    return local.reshape(len(local), -1).astype(np.float64)


class ArticulationBasis(NamedTuple):
    """Principal components of mouth shapes around each person's own mean."""

    axes: np.ndarray  # [A, 2 P] orthonormal
    scale: float  # metres; the first component has unit variance over the recordings it was found in

    def of(self, shapes: np.ndarray, num_train: int) -> np.ndarray:
        """Shapes [T, 2 P] -> [T, A] float32; the mean is that of the first ``num_train`` frames."""
        return ((shapes - shapes[:num_train].mean(0)) @ self.axes.T / self.scale).astype(np.float32)


def find_articulation_basis(training_shapes: list[np.ndarray], size: int) -> ArticulationBasis:
    """The basis of one or more people's shapes [T, 2 P], in A = ``size`` components."""
    centered = np.concatenate([shapes - shapes.mean(0) for shapes in training_shapes])
    _, singular, axes = np.linalg.svd(centered, full_matrices=False)
    return ArticulationBasis(axes[:size], float(singular[0] / np.sqrt(len(centered))))
