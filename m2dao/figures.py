"""Figures as people and programs read them."""

from __future__ import annotations

import math
from typing import Any


def known(value: float) -> float | None:
    """None in place of NaN, which JSON does not have."""
    return None if math.isnan(value) else float(value)


def rounded(figures: Any, digits: int = 4) -> Any:
    """The same with every float in it rounded, however deep in dicts and lists."""
    if isinstance(figures, float):
        return round(figures, digits)
    if isinstance(figures, dict):
        return {key: rounded(value, digits) for key, value in figures.items()}
    if isinstance(figures, list):
        return [rounded(value, digits) for value in figures]
    return figures
