"""Shows a comparison: a table, bars, and all rows side by side in one video.

Shapes: S pixels a side.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from m2dao.media.audio import read_audio
from m2dao.media.mux import VideoWriter
from m2dao.media.video import probe_video, read_frames
from m2dao.plots import as_png, name_plot, new_plot

_COLUMNS = (
    ("psnr_db", "PSNR", 2),
    ("head_psnr_db", "head", 2),
    ("edge_psnr_db", "edge", 2),
    ("neck_psnr_db", "neck", 2),
    ("ssim", "SSIM", 3),
    ("st_lpips", "ST-LPIPS", 4),
    ("lmd_px", "LMD", 2),
    ("flicker", "flicker", 2),
    ("change", "change", 2),
    ("sync_offset_frames", "sync", 2),
    ("sync_confidence", "conf", 2),
    ("jitter_silence", "jitter", 4),
    ("held_vowel_jitter", "vowels", 4),
    ("closure_mbp", "m b p", 2),
    ("closure_ratio", "closures", 2),
    ("opening_ratio", "opening", 2),
    ("steps", "steps", 0),
)
_LABEL_PX = 20


def table(rows: list[dict]) -> str:
    """All rows as text, one block for each protocol, the recording's own figures below."""
    lines = []
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        part = [row for row in rows if row["protocol"] == protocol]
        lines.append(f"{protocol:<24}" + "".join(f"{head:>9}" for _, head, _ in _COLUMNS))
        lines += [f"{row['name']:<24}" + "".join(cell(row[key], digits) for key, _, digits in _COLUMNS) for row in part]
        own = [part[-1].get(f"recording_{key}") for key, _, _ in _COLUMNS]
        lines.append(
            f"{'the recording itself':<24}" + "".join(cell(value, c[2]) for value, c in zip(own, _COLUMNS, strict=True))
        )
        lines.append("")
    return "\n".join(lines)


def gains_table(gains: list[dict]) -> str:
    """PSNR of ours over each baseline as text, a line each, with its 95 % interval where there is one."""
    lines = []
    for gain in gains:
        spread = gain["ci95"].get("psnr_db")
        interval = "" if spread is None else f" +- {spread:.2f}"
        value = "unknown" if gain["psnr_db"] is None else f"{gain['psnr_db']:+.2f}{interval} dB"
        lines.append(f"over {gain['over']:<24} {gain['protocol']:<9} {value}")
    return "\n".join(lines)


def shares_table(shares: list[dict]) -> str:
    """What of the gain is capture and what is method as text, a line for each protocol."""
    return "\n".join(
        f"{share['protocol']:<9} {share['total_db']:+.2f} dB over the published design: "
        f"{share['capture_db']:+.2f} dB capture, {share['method_db']:+.2f} dB method"
        for share in shares
    )


def cell(value: float | bool | None, digits: int) -> str:
    """A figure in a column of a table; nothing where it is not known."""
    if isinstance(value, bool):
        return f"{'yes' if value else 'no':>9}"
    return f"{'' if value is None else format(value, f'.{digits}f'):>9}"


def bars(rows: list[dict], title: str) -> bytes:
    """PSNR of the whole picture, the head and the outline's edge by row and protocol, as PNG."""
    protocols = list(dict.fromkeys(row["protocol"] for row in rows if row["psnr_db"] is not None))
    figure = new_plot(5.4 * len(protocols), 1.2 + 0.5 * len(rows))
    for axis, protocol in zip(np.atleast_1d(figure.subplots(1, len(protocols))), protocols, strict=True):
        part = [row for row in rows if row["protocol"] == protocol][::-1]
        places = np.arange(len(part))
        for offset, (key, label, color) in enumerate(
            (
                ("edge_psnr_db", "edge of the person", "0.8"),
                ("head_psnr_db", "head", "0.55"),
                ("psnr_db", "whole picture", "tab:red"),
            )
        ):
            values = [row[key] or 0.0 for row in part]
            drawn = axis.barh(places + 0.27 * (offset - 1), values, height=0.25, label=label, color=color)
            axis.bar_label(drawn, fmt="%.2f", padding=2, fontsize=7)
        known = [row[key] for row in part for key in ("psnr_db", "head_psnr_db", "edge_psnr_db") if row[key]]
        axis.set_xlim(min(known) - 2, max(known) + 1.5)
        axis.set_yticks(places, [row["name"] for row in part])
        axis.set(xlabel="PSNR (dB), axis cut", title=f"protocol {protocol}")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
    name_plot(figure, title)
    return as_png(figure)


def side_by_side(films: dict[str, Path], out: Path) -> None:
    """One video of the recording and every row, from the side-by-side videos of the rows.

    Args:
        films: by name of the row, from left to right.
        out: the mp4.
    """
    paths = list(films.values())
    info = probe_video(paths[0])
    size, labels = info.height, ("recording", *films)
    width, height = size * len(labels), size + _LABEL_PX
    with VideoWriter(out, width=width, height=height, waveform=read_audio(paths[0])) as writer:
        for frames in zip(*(read_frames(path) for path in paths), strict=True):
            panels = [frames[0].rgb[:, :size], *(frame.rgb[:, size:] for frame in frames)]
            labelled = [_labelled(panel, label) for panel, label in zip(panels, labels, strict=True)]
            writer.write(np.concatenate(labelled, axis=1))


def _labelled(picture: np.ndarray, label: str) -> np.ndarray:
    """A strip with a name above a picture."""
    strip = np.zeros((_LABEL_PX, picture.shape[1], 3), np.uint8)
    cv2.putText(strip, label, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])
