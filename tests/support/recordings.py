"""Small recordings of a face, and tracks of one.

The face is the public-domain portrait in scikit-image (Eileen Collins, NASA).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from m2dao.capture.faces.layout import face_layout
from m2dao.capture.faces.tracking import Tracks
from tests.support.speech import speech_like
from tests.support.videos import write_video

SIDE = 288
T = 200  # frames of `tracks`


@functools.cache
def portrait(side: int = SIDE) -> np.ndarray:
    """Head and shoulders, uint8 [side, side, 3]; the face is about 0.4 of the side high."""
    from skimage.data import astronaut

    return cv2.resize(astronaut()[0:250, 98:348], (side, side), interpolation=cv2.INTER_AREA)


def moved(image: np.ndarray, seconds: float, amount: float = 1.0) -> np.ndarray:
    """`image` as a head that sways and nods a little would look at an instant; smooth in time."""
    side = image.shape[0]
    angle = amount * 2.5 * np.sin(2 * np.pi * 0.31 * seconds)
    scale = 1.04 + amount * 0.012 * np.sin(2 * np.pi * 0.23 * seconds + 1)
    matrix = cv2.getRotationMatrix2D((side / 2, side * 0.55), angle, scale)
    matrix[:, 2] += (
        amount * side * 0.008 * np.array([np.sin(2 * np.pi * 0.4 * seconds), np.cos(2 * np.pi * 0.27 * seconds)])
    )
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def write_recording(
    path: Path,
    *,
    seconds: float = 5.4,
    rate: Fraction | int = 25,
    change: Callable[[np.ndarray, float], np.ndarray] = lambda frame, seconds: frame,
    waveform: np.ndarray | None | str = "speech",
    **options,
) -> Path:
    """Write a recording of the portrait, swaying and with sound.

    Args:
        change: what to do to each frame uint8 [SIDE, SIDE, 3] at its instant; all results of one shape.
        waveform: float32 [S] at 16 kHz, None for no sound, "speech" for something like it.
        options: of `write_video`.
    """
    times = [i / Fraction(rate) for i in range(int(seconds * rate))]
    frames = [change(moved(portrait(), float(time)), float(time)) for time in times]
    if isinstance(waveform, str):
        waveform = speech_like(seconds, seed=1)
    return write_video(path, times, frames, waveform=waveform, **options)


def tracks(face_px: float = 300.0, **changes) -> Tracks:
    """Tracks of a face that sways a little in the middle of a 1280 x 720 picture."""
    face = np.zeros((478, 3))
    face[:468, :2] = face_layout() * face_px / 1.85  # the layout is about 1.85 eye distances high
    phase = np.arange(T) / 25
    sway = np.stack([640 + 20 * np.sin(phase), 360 + 8 * np.cos(1.3 * phase), np.zeros(T)], -1)
    rng = np.random.default_rng(0)
    made = Tracks(
        width=1280,
        height=720,
        landmarks=(face + sway[:, None] + rng.normal(0, 0.1, (T, 1, 3))).astype(np.float32),
        blendshapes=np.zeros((T, 52), np.float32),
        valid=np.ones(T, bool),
        num_faces=np.where(np.arange(T) % 12 == 0, 1, -1),
        change=rng.uniform(0.3, 0.8, T).astype(np.float32),
        median_change=np.zeros(T, np.float32),
        source_times_s=np.arange(T) / 25,
        sharpness=np.full(T, 150, np.float32),
        brightness=np.tile(np.array([60, 130, 190], np.float32), (T, 1)),
        covered=np.where(np.arange(T) % 5 == 0, np.float32(0.02), np.float32(np.nan)),
        glare=np.where(np.arange(T) % 5 == 0, np.float32(0.0), np.float32(np.nan)),
        samples=[],
    )
    return dataclasses.replace(made, **changes)


def with_rows(values: np.ndarray, rows, value) -> np.ndarray:
    """A copy with other values in some rows."""
    changed = np.array(values, copy=True)
    changed[rows] = value
    return changed
