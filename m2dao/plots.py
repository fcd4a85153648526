"""Plots as files; matplotlib is loaded with the first one.

They are drawn without pyplot, which keeps state between plots."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from m2dao.errors import needs_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_plot(width_in: float, height_in: float) -> Figure:
    """An empty plot whose parts find room by themselves."""
    with needs_extra("fit"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    plot = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(plot)
    return plot


def name_plot(plot: Figure, title: str) -> None:
    """Write a name on top as it is: dollar signs begin no formula, and bytes that are no UTF-8 are marked."""
    plot.suptitle(title.encode("utf-8", "replace").decode(), parse_math=False)


def as_png(plot: Figure, dpi: int = 110) -> bytes:
    """The plot as a file."""
    return as_picture(plot, "png", dpi)


def as_picture(plot: Figure, kind: str, dpi: int = 110) -> bytes:
    """The plot as a file of a kind, such as "svg"."""
    buffer = io.BytesIO()
    plot.savefig(buffer, format=kind, dpi=dpi)
    return buffer.getvalue()
