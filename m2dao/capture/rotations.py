"""Batched rotation algebra: rotation vectors, matrices and the best rotation between point sets."""

from __future__ import annotations

import numpy as np

_SMALL_ANGLE = 1e-8
_NO_LENGTH = 1e-6


def rotation_from_vector(vectors: np.ndarray) -> np.ndarray:
    """Rotation matrices of rotation vectors (Rodrigues' formula).

    Args:
        vectors: [..., 3], axis times angle in radians.

    Returns:
        [..., 3, 3].
    """
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    hat = cross_matrix(vectors)
    # sin(a)/a and (1-cos(a))/a^2 through sinc, which is exact at zero.
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.eye(3) + first * hat + second * (hat @ hat)


def vector_from_rotation(rotations: np.ndarray) -> np.ndarray:
    """Rotation vectors [..., 3] of rotation matrices [..., 3, 3] whose angle is well below 180 degrees."""
    skew = 0.5 * np.stack(
        [
            rotations[..., 2, 1] - rotations[..., 1, 2],
            rotations[..., 0, 2] - rotations[..., 2, 0],
            rotations[..., 1, 0] - rotations[..., 0, 1],
        ],
        axis=-1,
    )
    sine = np.linalg.norm(skew, axis=-1)
    cosine = 0.5 * (np.trace(rotations, axis1=-2, axis2=-1) - 1.0)
    angle = np.arctan2(sine, cosine)
    scale = np.where(sine > _SMALL_ANGLE, angle / np.maximum(sine, _SMALL_ANGLE), 1.0)
    return skew * scale[..., None]


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
    frames = np.arange(len(valid))
    after = np.searchsorted(known, frames).clip(0, len(known) - 1)
    before = np.where(known[after] <= frames, after, (after - 1).clip(0))
    first, last = known[before], known[after]
    span = np.maximum(last - first, 1)
    fraction = np.where(last > first, (frames - first) / span, 0.0)
    step = vector_from_rotation(rotations[last] @ np.swapaxes(rotations[first], -1, -2))
    return rotation_from_vector(step * fraction[:, None]) @ rotations[first]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., 3] scaled to length one; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _NO_LENGTH)
