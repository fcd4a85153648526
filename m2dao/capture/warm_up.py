"""Compiling the kernels of capture ahead of their first use."""

from __future__ import annotations

import numpy as np

from m2dao.capture.cameras.alignment_kernel import normal_equations
from m2dao.capture.regions.mask_kernel import finish_masks


def compile_capture_kernels() -> None:
    """Run each kernel once on next to nothing; the machine code stays on disk for later processes."""
    flat = np.ones((8, 8), np.float32)
    four = np.ones((8, 8, 4), np.float32)
    finish_masks(np.zeros((16, 16, 3), np.uint8), four, flat, flat, four)
    points = np.random.default_rng(0).random((16, 3))
    ones, yes = np.ones(16), np.ones(16, bool)
    layers = np.ones((8, 8, 3), np.float32)
    shift, origin = np.array([0.0, 0.0, 2.0]), np.zeros(2)
    normal_equations(points, np.eye(3), shift, 8.0, 4.0, layers, origin, ones, ones, yes, yes, 5.0)
