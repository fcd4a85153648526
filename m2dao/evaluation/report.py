"""Writes what an evaluation leaves to look at: a side-by-side video, plots, JSON.

Shapes: T frames, S pixels a side.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from m2dao.evaluation.mouth import Lips
from m2dao.media.mux import VideoWriter
from m2dao.plots import as_png, new_plot
from m2dao.timeline import FRAME_RATE


class SideBySide:
    """A video with the recording left and the render right (the render alone where there is no recording)."""

    def __init__(self, folder: Path, size: int, waveform: np.ndarray, *, has_recording: bool):
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = VideoWriter(
            folder / "side_by_side.mp4", width=size * (2 if has_recording else 1), height=size, waveform=waveform
        )

    def __enter__(self) -> SideBySide:
        self._writer.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._writer.__exit__(*error)

    def add(self, recorded: np.ndarray | None, rendered: np.ndarray) -> None:
        """The next frame, [S, S, 3] uint8 each."""
        self._writer.write(rendered if recorded is None else np.concatenate([recorded, rendered], axis=1))


def write_result(folder: Path, figures: dict, recorded: Lips | None, rendered: Lips) -> None:
    """`evaluation.json` and `plots.png`.

    Args:
        folder: exists or is made.
        figures: the result.
        recorded: lips of the recording, if there is one.
        rendered: lips of the render.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
    (folder / "plots.png").write_bytes(_plot(figures, recorded, rendered))


def _plot(figures: dict, recorded: Lips | None, rendered: Lips) -> bytes:
    figure = new_plot(10, 3.2)
    axis = figure.subplots()
    time_s = np.arange(len(rendered.lip_opening)) / FRAME_RATE
    if recorded is not None:
        axis.plot(time_s, recorded.lip_opening, label="recorded", color="0.6")
    axis.plot(time_s, rendered.lip_opening, label="rendered", color="tab:red")
    axis.set(xlabel="time (s)", ylabel="lip opening\n(outer eye distances)")
    said = [
        f"{name} {figures[name]:.2f}"
        for name in ("psnr_db", "lmd_px", "sync_offset_frames")
        if figures.get(name) is not None
    ]
    axis.set_title(f"protocol {figures['protocol']}: {', '.join(said)}")
    axis.legend(loc="upper right")
    return as_png(figure)
