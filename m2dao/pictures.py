"""Picture files, whatever their path is called: OpenCV itself cannot open a name that is no UTF-8."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def read_picture(path: Path, mode: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """The picture in a file as OpenCV has it (blue first), None where there is none that can be read."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError:
        return None
    return cv2.imdecode(data, mode) if len(data) else None


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture (blue first) in the format that the path ends in.

    Raises:
        OSError: there is no room or no leave to write it.
        cv2.error: no such format, or no picture.
    """
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())
