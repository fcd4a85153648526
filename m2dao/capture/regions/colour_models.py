"""Learns what skin, hair and clothes look like in one recording: log densities over colours."""

from __future__ import annotations

import numpy as np

from m2dao.errors import needs_extra

with needs_extra("fit"):
    from sklearn.mixture import GaussianMixture

_LEVELS = 64  # per colour channel: steps of four, below the noise of a video
_NUM_COMPONENTS = 4
_MAX_SAMPLES = 6000  # per class
_MIN_SAMPLES = 200
_LOG_FLOOR = -14.0  # density of a colour no class knows: keeps one odd pixel from outvoting everything else


class ColourModels:
    """Mixtures of Gaussians over RGB for a few named classes, evaluated by table look-up.

    Args:
        samples: per class name, uint8 [N, 3] colours seen in the recording. A class with fewer than 200 samples has a
            flat density.
        seed: of the sampling and of the mixtures.
    """

    def __init__(self, samples: dict[str, np.ndarray], *, seed: int = 0):
        random = np.random.default_rng(seed)
        steps = (np.arange(_LEVELS) + 0.5) / _LEVELS
        grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
        self._tables = {name: self._table(colours, grid, random, seed) for name, colours in samples.items()}

    @staticmethod
    def _table(colours: np.ndarray, grid: np.ndarray, random: np.random.Generator, seed: int) -> np.ndarray:
        if len(colours) < _MIN_SAMPLES:
            return np.zeros(len(grid), dtype=np.float32)
        if len(colours) > _MAX_SAMPLES:
            colours = colours[random.choice(len(colours), _MAX_SAMPLES, replace=False)]
        # Half a step of noise: a flat colour would make a mixture component with no width at all.
        values = colours / 256.0 + random.normal(0.0, 0.5 / _LEVELS, colours.shape)
        mixture = GaussianMixture(
            _NUM_COMPONENTS, reg_covar=2e-4, max_iter=60, tol=1e-2, init_params="k-means++", random_state=seed
        )
        mixture.fit(values)
        return np.maximum(mixture.score_samples(grid), _LOG_FLOOR).astype(np.float32)

    @staticmethod
    def indices(rgb: np.ndarray) -> np.ndarray:
        """int32 [H, W] table positions of the colours ``rgb``, uint8 [H, W, 3]."""
        step = (rgb >> 2).astype(np.int32)
        return (step[..., 0] * _LEVELS + step[..., 1]) * _LEVELS + step[..., 2]

    def log_density(self, name: str, indices: np.ndarray) -> np.ndarray:
        """float32, shape of ``indices``: log density of the class at those colours."""
        return self._tables[name][indices]
