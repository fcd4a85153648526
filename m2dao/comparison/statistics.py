"""Means of a comparison with their 95 % intervals.

What is repeated is a *unit*: a seed where there is one recording, a recording where there are several. Rows of one unit
share recording and seed, so gains are taken within each unit, and what all its rows have in common cancels out.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import t as student_t

from m2dao.comparison.runs import CROSS, FIGURES

Unit = list[dict]  # entries of `Comparison.run`, or means of them
_GAINED = ("psnr_db", "head_psnr_db", "edge_psnr_db")


def half_width_95(values: list[float]) -> float | None:
    """Half the width of the 95 % interval of a mean (Student, 1908); None for fewer than two values."""
    if len(values) < 2:
        return None
    return float(student_t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))


def mean_rows(units: list[Unit]) -> list[dict]:
    """Rows averaged over units; a figure that one of them lacks is averaged over the others.

    Returns:
        One entry for each row and protocol. Its ``ci95`` holds half widths by figure, for figures with two values or
        more.
    """
    out = []
    for entries in zip(*units, strict=True):
        mean = {key: entries[0][key] for key in ("name", "what", "protocol")}
        figures = {
            figure: [entry[figure] for entry in entries if entry[figure] is not None]
            for figure in (*FIGURES, "steps", "fit_seconds", "bytes")
            if figure in entries[0]
        }
        out.append({**mean, **_means(figures), "ci95": _half_widths(figures)})
    return out


def mean_gains(units: list[Unit], *, ours: str = "m2dao") -> list[dict]:
    """PSNR of ours over each baseline: {over, protocol, psnr_db, head_psnr_db, edge_psnr_db, ci95}."""
    out = []
    for same in zip(*(gains(unit, ours=ours) for unit in units), strict=True):
        gained = {figure: [gain[figure] for gain in same if gain[figure] is not None] for figure in _GAINED}
        named = {"over": same[0]["over"], "protocol": same[0]["protocol"]}
        out.append({**named, **_means(gained), "ci95": _half_widths(gained)})
    return out


def gains(rows: Unit, *, ours: str = "m2dao") -> list[dict]:
    """PSNR of ours over each baseline within one unit."""
    by_key = {(row["name"], row["protocol"]): row for row in rows}
    out = []
    for (name, protocol), row in by_key.items():
        mine = by_key.get((ours, protocol))
        if mine is None or protocol == CROSS or not name.startswith("talking_gaussian"):
            continue
        gained = {
            figure: None if None in (mine[figure], row[figure]) else mine[figure] - row[figure] for figure in _GAINED
        }
        out.append({"over": name, "protocol": protocol, **gained})
    return out


def shares_of_gain(gained: list[dict]) -> list[dict]:
    """How much of the gain over the published design is capture and how much is the method.

    The published design with our capture stands between the two, so the shares add up.

    Args:
        gained: of :func:`mean_gains`.

    Returns:
        {protocol, total_db, capture_db, method_db} for each protocol that has all three rows.
    """
    found = {(gain["over"], gain["protocol"]): gain["psnr_db"] for gain in gained}
    out = []
    for (over, protocol), total in found.items():
        method = found.get((f"{over}_plus", protocol))
        if over == "talking_gaussian" and total is not None and method is not None:
            shares = {"total_db": total, "capture_db": round(total - method, 4), "method_db": method}
            out.append({"protocol": protocol, **shares})
    return out


def shortfalls(rows: Unit, *, of: str = "m2dao") -> list[dict]:
    """How far other rows stay behind one: {name, protocol, psnr_db, head_psnr_db}, negative if better."""
    best = {row["protocol"]: row for row in rows if row["name"] == of}
    return [
        {"name": row["name"], "protocol": row["protocol"]}
        | {figure: round(best[row["protocol"]][figure] - row[figure], 3) for figure in ("psnr_db", "head_psnr_db")}
        for row in rows
        if row["name"] != of
    ]


def _means(figures: dict[str, list[float]]) -> dict[str, float | None]:
    return {name: round(sum(values) / len(values), 4) if values else None for name, values in figures.items()}


def _half_widths(figures: dict[str, list[float]]) -> dict[str, float]:
    widths = {name: half_width_95(values) for name, values in figures.items()}
    return {name: round(width, 4) for name, width in widths.items() if width is not None}
