"""Figures that several benches quote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def percentile_ms(seconds: Sequence[float], percent: float) -> float:
    """A percentile in milliseconds; the largest value where there are too few to tell."""
    if not seconds:
        return float("nan")
    return round(1000 * float(np.percentile(seconds, percent, method="higher")), 1)
