"""Rotations of many frames at once: turns between them, gaps, the best between two point sets."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

_NO_LENGTH = 1e-6


def turns_between(rotations: np.ndarray) -> np.ndarray:
    """Rotation vectors [T - 1, 3], in radians, from each of the rotations [T, 3, 3] to the next."""
    return Rotation.from_matrix(rotations[1:] @ np.swapaxes(rotations[:-1], 1, 2)).as_rotvec()


def cross_matrix(vectors: np.ndarray) -> np.ndarray:
    """Matrices [..., 3, 3] whose product with ``b`` is ``vectors x b``; vectors are [..., 3]."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vectors.shape[:-1], 3, 3)


def best_rotation(correlation: np.ndarray) -> np.ndarray:
    """The rotations R that maximise trace(R^T C) (Kabsch), for correlation matrices C [..., 3, 3]."""
    u, _, vt = np.linalg.svd(correlation)
    sign = np.linalg.det(u @ vt)
    u = u.copy()
    u[..., :, 2] *= sign[..., None]
    return u @ vt


def interpolate_rotations(rotations: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Fill the rotations [T, 3, 3] of invalid frames along the shortest arc; the ends are held.

    Args:
        rotations: [T, 3, 3]; those of invalid frames are ignored.
        valid: bool [T], at least one true.
    """
    known = np.flatnonzero(valid)
    if len(known) == 1:
        return np.repeat(rotations[known], len(valid), axis=0)
    held = np.arange(len(valid)).clip(known[0], known[-1])
    return Slerp(known, Rotation.from_matrix(rotations[known]))(held).as_matrix()


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., 3] scaled to length one; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _NO_LENGTH)
