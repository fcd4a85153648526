"""Draws one trace: a bar for each span, below what it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.telemetry.traces.files import WrittenSpan
from cluster.telemetry.traces.spans import PREFIX
from m2dao.plots import as_picture, name_plot, new_plot

_WIDTH_IN, _ROW_IN, _FRAME_IN = 10.0, 0.26, 1.1
_FAILED = "tab:red"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One bar."""

    span: WrittenSpan
    depth: int
    begin_s: float  # since the begin of the trace

    @property
    def seconds(self) -> float:
        return self.span.end_s - self.span.start_s

    @property
    def busy_s(self) -> float:
        """The part of it in which it had its turn."""
        return float(self.span.attributes.get(f"{PREFIX}busy_s", self.seconds))

    @property
    def label(self) -> str:
        """What is said beside the bar."""
        number = self.span.attributes.get(f"{PREFIX}attempt")
        words = [self.span.name, "" if number is None else f"{number:g}", self.span.error and f"({self.span.error})"]
        return "  " * self.depth + " ".join(filter(None, words))


def rows_of(spans: Sequence[WrittenSpan]) -> list[Row]:
    """The rows of a trace: children after what they belong to, by their begin."""
    zero_s, known = min(span.start_s for span in spans), {span.span_id for span in spans}
    rows: list[Row] = []
    children: dict[str, list[WrittenSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start_s):
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)

    def add(parent_id: str, depth: int) -> None:
        for span in children.get(parent_id, ()):
            rows.append(Row(span=span, depth=depth, begin_s=span.start_s - zero_s))
            add(span.span_id, depth + 1)

    add("", 0)  # those whose parent is a client's, or was lost, stand on the left
    return rows


def draw_trace(spans: Sequence[WrittenSpan], title: str, *, kind: str) -> bytes:
    """The waterfall as a picture.

    Args:
        spans: of one trace.
        title: what stands on top.
        kind: "svg" or "png".
    """
    rows = rows_of(spans)
    components = sorted({span.component for span in spans})
    plot = new_plot(_WIDTH_IN, _FRAME_IN + _ROW_IN * len(rows))
    axis = plot.subplots()
    for index, row in enumerate(rows):
        color = f"C{components.index(row.span.component)}"
        edge = _FAILED if row.span.error else color
        axis.barh(index, row.seconds, left=row.begin_s, height=0.7, color=color, alpha=0.3, edgecolor=edge)
        axis.barh(index, row.busy_s, left=row.begin_s, height=0.7, color=color, edgecolor=edge)
        axis.annotate(
            f"{1000 * row.busy_s:.1f} ms",
            (row.begin_s + row.seconds, index),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axis.set_yticks(range(len(rows)), [row.label for row in rows], ha="left", fontsize=8)
    axis.tick_params(axis="y", pad=130, length=0)
    axis.invert_yaxis()
    axis.margins(x=0.1, y=0.01)
    axis.set_xlabel("seconds since the trace began")
    for index, component in enumerate(components):
        axis.barh(0, 0, color=f"C{index}", label=component)
    axis.legend(loc="lower left", fontsize=8)
    name_plot(plot, title)
    return as_picture(plot, kind)
