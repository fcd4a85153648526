"""Finds how deep a head's texture lies, from the recording itself.

A point at its right depth looks the same in every pose; at a wrong one it slides over its surroundings. So of several
depths along the ray that a point was first seen on, the one at which its brightness varies least over the frames is
taken (space sweeping, Collins 1996). Neighbours decide together, because single points of hair look alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from m2dao.gaussians.surface import decided_together

_PRIOR_WEIGHT = (
    0.002  # of the normalised brightness, at the ends of the freedom: where nothing speaks for another, a depth stays
)
_MOST_VARIATION = 1.0  # of the normalised brightness; beyond, it does not matter how much


def find_shifts(
    points: np.ndarray,
    rays: np.ndarray,
    freedom_m: np.ndarray,
    look: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    num_depths: int,
) -> np.ndarray:
    """How far points should move along their rays.

    Args:
        points: [S, 3] metres, head space.
        rays: [S, 3] unit.
        freedom_m: [S] metres, how far each may be off.
        look: gives the brightness of points [S, 3] in F frames, [F, S], and whether each is seen, bool [F, S].
        num_depths: tried over the freedom.

    Returns:
        [S] metres.
    """
    steps = np.linspace(-1, 1, num_depths)
    costs = np.stack([_variation(*look(points + rays * (freedom_m * step)[:, None])) for step in steps], axis=1)
    prior = _PRIOR_WEIGHT * steps**2
    return decided_together(points, costs, lambda mean: freedom_m * _lowest(mean + prior, steps))


def _variation(brightness: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """[S] mean distance from the mean over the frames that see a point; the most there is where none does."""
    num = seen.sum(axis=0)
    mean = (brightness * seen).sum(axis=0) / np.maximum(num, 1)
    away = np.minimum(np.abs(brightness - mean), _MOST_VARIATION)
    return np.where(num > 0, (away * seen).sum(axis=0) / np.maximum(num, 1), _MOST_VARIATION)


def _lowest(costs: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """[S] where costs [S, D] at ``steps`` [D] are lowest, by a parabola through the lowest three."""
    best = costs.argmin(axis=1).clip(1, len(steps) - 2)
    rows = np.arange(len(costs))
    before, lowest, after = (costs[rows, best + way] for way in (-1, 0, 1))
    curvature = before + after - 2 * lowest
    offset = np.where(curvature > 1e-9, 0.5 * (before - after) / np.maximum(curvature, 1e-9), 0.0)
    return steps[best] + offset.clip(-1, 1) * (steps[1] - steps[0])
