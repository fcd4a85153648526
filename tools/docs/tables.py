"""Fills the marked tables of hand-written pages from the JSON and the code that own their values.

A table is marked by two comments; what stands between them is written here. The first line names the rows: a list in a
JSON file, or a function of ``rows.py``. Each further line is one column as ``heading: template`` with ``str.format``
fields::

    <!-- table results/raw/published-design.json#rows protocol=paper
    recording: {clip}
    PSNR, dB: {psnr_db:.2f}
    -->
    <!-- end table -->

``key=value`` keeps the rows with that value.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tools.docs.rows import ROWS

_MARKED = re.compile(r"(<!-- table (?P<spec>.*?)-->\n)(?P<body>.*?)(<!-- end table -->)", re.DOTALL)
_NOTHING = "–"


class _Cells(string.Formatter):
    """Formats a template; a missing value shows as a dash, a list as its members, whatever the format."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, list):
            return ", ".join(self.format_field(each, format_spec) for each in value)
        return _NOTHING if value is None else super().format_field(value, format_spec)


def fill_tables(text: str, folder: Path) -> str:
    """The page with every marked table written anew; files are named relative to ``folder``."""
    return _MARKED.sub(lambda found: found[1] + _table_of(found["spec"], folder) + found[4], text)


def markdown_table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table with a line break at its end."""
    headings = list(headings)
    lines = [headings, ["---"] * len(headings), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _table_of(spec: str, folder: Path) -> str:
    source, *columns = [line for line in spec.strip().splitlines() if line]
    name, *conditions = source.split()
    rows = [row for row in _rows_of(name, folder) if all(_holds(row, condition) for condition in conditions)]
    pairs = [column.split(": ", 1) for column in columns]
    cells = _Cells()
    return markdown_table(
        (heading for heading, _ in pairs), ([cells.format(template, **row) for _, template in pairs] for row in rows)
    )


def _rows_of(name: str, folder: Path) -> Iterable[Mapping[str, Any]]:
    path, _, member = name.partition("#")
    return json.loads((folder / path).read_text(encoding="utf-8"))[member] if member else ROWS[name]()


def _holds(row: Mapping[str, Any], condition: str) -> bool:
    key, _, value = condition.partition("=")
    return str(row[key]) == value
