"""Cuts the window of feature rows that each video frame looks at.

Frame ``i`` shows the instant ``i / 25`` s, which is where its own rows begin. Its window of ``W`` frames takes
``lookahead_frames`` frames of sound after that instant and ``W - lookahead_frames`` before it; by default half of it
each, so that the window is centred on the instant the frame shows. Before the first and after the last row, that row is
repeated.

Shapes: R rows, F values a row, T frames, L rows a window, N frames of a neighbourhood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from m2dao.errors import ConfigError, InputError
from m2dao.timeline import FRAME_RATE


@dataclass(frozen=True, kw_only=True)
class WindowShape:
    """Which rows belong to a frame.

    Attributes:
        rows_per_frame: feature rows per video frame.
        frames_per_window: W, length of the window in frames.
        lookahead_frames: frames of sound after the instant the frame shows; half the window if None.
    """

    rows_per_frame: int
    frames_per_window: int
    lookahead_frames: int | None = None

    def __post_init__(self) -> None:
        if self.rows_per_frame < 1 or self.frames_per_window < 1:
            raise ConfigError(
                "audio window",
                "rows_per_frame >= 1 and frames_per_window >= 1",
                f"{self.rows_per_frame} and {self.frames_per_window}",
            )
        if self.lookahead_frames is not None and not 0 <= self.lookahead_frames <= self.frames_per_window:
            raise ConfigError(
                "audio window", f"lookahead_frames between 0 and {self.frames_per_window}", str(self.lookahead_frames)
            )

    @property
    def num_rows(self) -> int:
        """L, rows in a window."""
        return self.rows_per_frame * self.frames_per_window

    @property
    def rows_after(self) -> int:
        """Rows after the instant that the frame shows."""
        if self.lookahead_frames is None:
            return self.num_rows // 2
        return self.lookahead_frames * self.rows_per_frame

    @property
    def lookahead_s(self) -> float:
        """Sound needed after the instant a frame shows, without the look-ahead of the features themselves."""
        return self.rows_after / (self.rows_per_frame * FRAME_RATE)

    def row_indices(self, frames: np.ndarray, num_rows: int) -> np.ndarray:
        """Indices of the rows in the windows of ``frames``: [...] int -> [..., L], edges repeated."""
        first = np.asarray(frames)[..., None] * self.rows_per_frame - (self.num_rows - self.rows_after)
        return np.clip(first + np.arange(self.num_rows), 0, num_rows - 1)


def window_shape(
    num_rows: int, num_frames: int, *, frames_per_window: int, lookahead_frames: int | None = None
) -> WindowShape:
    """The shape for features of ``num_rows`` rows over ``num_frames`` frames.

    Raises:
        InputError: there are no frames, or the rows do not divide evenly among them.
    """
    if num_frames < 1 or num_rows < num_frames or num_rows % num_frames:
        raise InputError(
            "audio features",
            "the same whole number of rows for each frame",
            f"{num_rows} rows for {num_frames} frames",
            "extract them from a waveform of exactly 640 samples a frame",
        )
    return WindowShape(
        rows_per_frame=num_rows // num_frames, frames_per_window=frames_per_window, lookahead_frames=lookahead_frames
    )


def audio_windows(
    features: np.ndarray | torch.Tensor,  # [R, F]
    num_frames: int,
    *,
    frames_per_window: int,
    lookahead_frames: int | None = None,
) -> np.ndarray | torch.Tensor:  # [T, L, F]
    """Windows of all frames, of the kind (array or tensor) that ``features`` is.

    Args:
        num_frames: T; R must be a multiple of it.
        frames_per_window: window length in frames, so that L = frames_per_window * R / T.
        lookahead_frames: frames of sound after the instant a frame shows; by default half the window.
    """
    return windows_of_frames(
        features,
        np.arange(num_frames),
        num_frames=num_frames,
        frames_per_window=frames_per_window,
        lookahead_frames=lookahead_frames,
    )


def windows_of_frames(
    features: np.ndarray | torch.Tensor,  # [R, F]
    frames: np.ndarray,  # [...] int
    *,
    num_frames: int,
    frames_per_window: int,
    lookahead_frames: int | None = None,
) -> np.ndarray | torch.Tensor:  # [..., L, F]
    """Windows of chosen frames: those of ``audio_windows`` at ``frames``, without the others in memory.

    Frame numbers outside ``0..num_frames - 1`` mean the first or last frame, as at the ends of the encoder's
    neighbourhood.
    """
    shape = window_shape(
        len(features), num_frames, frames_per_window=frames_per_window, lookahead_frames=lookahead_frames
    )
    indices = shape.row_indices(np.clip(np.asarray(frames), 0, num_frames - 1), len(features))
    if isinstance(features, torch.Tensor):
        return features[torch.from_numpy(indices).to(features.device)]
    return features[indices]


class WindowStream:
    """The windows of ``audio_windows``, from rows that arrive in pieces.

    Keeps one window of rows. A window comes out when its last row has come in, or at the end.
    """

    def __init__(self, shape: WindowShape, dim: int):
        self._shape = shape
        self._rows = np.zeros((0, dim), np.float32)
        self._first_row = 0  # number of the first row kept
        self._num_rows = 0
        self._next_frame = 0
        self._finished = False

    def push(self, rows: np.ndarray) -> np.ndarray:
        """The next rows [r, F] -> windows that are final now [t, L, F] float32."""
        if self._finished:
            raise InputError("window stream", "rows before finish()", "rows after it", "start another stream")
        self._rows = np.concatenate([self._rows, np.asarray(rows, np.float32)])
        self._num_rows += len(rows)
        last = (self._num_rows - self._shape.rows_after) // self._shape.rows_per_frame
        # A frame needs at least its own first row, whatever its look-ahead.
        started = -(-self._num_rows // self._shape.rows_per_frame)
        return self._emit(min(last, started - 1) + 1 if self._num_rows else 0)

    def finish(self) -> np.ndarray:
        """The windows still missing [t, L, F], with the last row repeated after the end."""
        self._finished = True
        return self._emit(self._num_rows // self._shape.rows_per_frame)

    def _emit(self, stop: int) -> np.ndarray:
        shape = self._shape
        frames = np.arange(self._next_frame, max(stop, self._next_frame))
        if len(frames) == 0:
            return np.zeros((0, shape.num_rows, self._rows.shape[1]), np.float32)
        windows = self._rows[shape.row_indices(frames, self._num_rows) - self._first_row]
        self._next_frame = int(frames[-1]) + 1
        # Rows before the next window are done with; one row must stay to be repeated at the end.
        keep_from = self._next_frame * shape.rows_per_frame - (shape.num_rows - shape.rows_after)
        num_done = min(max(0, keep_from - self._first_row), len(self._rows) - 1)
        self._rows = self._rows[num_done:].copy()
        self._first_row += num_done
        return windows
