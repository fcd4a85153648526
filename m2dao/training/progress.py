"""Shows a running fit: numbers in a file, pictures in a strip.

Shapes: H x W pixels.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from m2dao.figures import rounded
from m2dao.pictures import read_picture, write_picture


class FitProgress(NamedTuple):
    """Told to whoever watches a fit; before the first step, ``loss`` and ``psnr_db`` are NaN."""

    step: int
    progress: float  # 0..1
    phase: str
    loss: float
    psnr_db: float
    seconds: float

    def describe(self) -> str:
        """One line for a progress bar."""
        if math.isnan(self.loss):
            return self.phase
        return f"step {self.step}, {self.phase}, loss {self.loss:.4f}, {self.psnr_db:.1f} dB"


class ProgressFiles:
    """`metrics.jsonl` and `strip.jpg` in the work folder; a resumed fit goes on with both."""

    def __init__(self, folder: Path):
        self._metrics = folder / "metrics.jsonl"
        self._strip = folder / "strip.jpg"

    def add_numbers(self, report: FitProgress) -> None:
        with open(self._metrics, "a") as file:
            file.write(json.dumps(rounded(report._asdict(), 5)) + "\n")

    def add_pictures(self, recorded: np.ndarray, rendered: np.ndarray) -> None:
        """A new column: the recording above, the render below; both [H, W, 3] uint8."""
        column = cv2.cvtColor(np.concatenate([recorded, rendered]), cv2.COLOR_RGB2BGR)
        if self._strip.is_file():
            old = read_picture(self._strip)
            if old is not None and old.shape[0] == column.shape[0]:
                column = np.concatenate([old, column], axis=1)
        write_picture(self._strip, column)
