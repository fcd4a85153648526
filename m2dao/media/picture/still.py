"""Finds recordings in which nothing moves: a photograph or a slide with sound, sent as a film."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from m2dao.errors import MediaError
from m2dao.media.container import DEFAULT_LIMITS, MediaLimits
from m2dao.media.video import read_frames

LOOK_S = 20  # a person who does not move for so long is a picture
LOOK_SIDE = 96
MOVES_BY = 12  # grey levels of some place; what coding leaves of a still is less


def is_still(path: Path | str, *, limits: MediaLimits = DEFAULT_LIMITS, track: int | None = None) -> bool:
    """Whether all pictures of the first seconds are the same one; stops at the first that is not.

    Raises:
        MediaError: not a readable video, or outside `limits`.
    """
    first: np.ndarray | None = None
    for frame in read_frames(path, frame_rate=5, max_side=LOOK_SIDE, limits=limits, track=track):
        grey = frame.rgb.astype(np.int16).mean(axis=2)
        if first is None:
            first = grey
        elif np.abs(grey - first).max() > MOVES_BY:
            return False
        if frame.time_s > LOOK_S:
            break
    return True


def refuse_still(path: Path | str, *, limits: MediaLimits = DEFAULT_LIMITS, track: int | None = None) -> None:
    """Raise MediaError where nothing moves."""
    if is_still(path, limits=limits, track=track):
        raise MediaError(
            str(path),
            "a person who moves and speaks",
            "one still picture shown for the whole time",
            "film the person while speaking; a photograph does not show how lips move",
        )
