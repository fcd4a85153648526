"""Computes features one video frame at a time, so that a file and a stream give the same rows.

The clock (see ``m2dao.timeline``): frame ``i`` owns the samples ``[640 i, 640 (i + 1))``. A feature of ``rate_hz``
rows a second has ``rate_hz / 25`` rows a frame; row ``r`` covers the samples ``[hop r, hop (r + 1))`` with
``hop = 16000 / rate_hz`` and is centred on the instant ``(r + 1/2) / rate_hz``. The rows of frame ``i`` are
``[i * rows_per_frame, (i + 1) * rows_per_frame)``.

A feature is a function of a *block*: the samples of one or a few frames with a fixed number of samples before and after
them, plus a state that only the past can change. ``extract`` is a stream fed at once, and every operation on a block
is the same whether it is computed alone or among others; therefore the rows do not depend on how the sound was cut.

Shapes: S samples, R rows, F feature dimensions, B blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from m2dao.errors import InputError
from m2dao.timeline import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME, num_frames_for_samples

# Blocks computed together: enough to be fast, few enough that an hour of sound needs no more memory than ten seconds.
MAX_BLOCKS_AT_ONCE = 250


def check_waveform(waveform: np.ndarray) -> np.ndarray:
    """``waveform`` as float32 mono samples.

    Args:
        waveform: [S] floating point, 16 kHz, nominal range -1..1.

    Raises:
        InputError: not one-dimensional, not floating point, or not finite.
    """
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or waveform.dtype.kind != "f":
        raise InputError(
            "waveform",
            "one-dimensional floating-point samples at 16 kHz",
            f"{waveform.dtype} of shape {list(waveform.shape)}",
            "read sound with m2dao.media.audio.read_audio",
        )
    if not np.isfinite(waveform).all():
        raise InputError("waveform", "finite samples", "NaN or infinite samples", "check how the sound was decoded")
    return waveform.astype(np.float32, copy=False)


class FramewiseFeatures(ABC):
    """A feature extractor; subclasses fill in the attributes and ``rows``.

    Attributes:
        name: what ``get_extractor`` knows it by.
        dim: F, values in a row.
        rate_hz: rows per second, a multiple of 25.
        left_samples: samples before a block that its rows look at.
        right_samples: samples after a block that its rows look at.
        frames_per_block: frames that are computed together.
    """

    name: str
    dim: int
    rate_hz: int
    left_samples: int = 0
    right_samples: int = 0
    frames_per_block: int = 1

    @property
    def rows_per_frame(self) -> int:
        return self.rate_hz // FRAME_RATE

    @property
    def lookahead_samples(self) -> int:
        """Samples needed after the end of a frame before every row of that frame is final."""
        return self.right_samples + (self.frames_per_block - 1) * SAMPLES_PER_FRAME

    @property
    def lookahead_s(self) -> float:
        """``lookahead_samples`` in seconds."""
        return self.lookahead_samples / SAMPLE_RATE

    @abstractmethod
    def initial_state(self) -> Any:
        """What the past has left behind before the first sample."""

    @abstractmethod
    def rows(self, blocks: np.ndarray, state: Any) -> np.ndarray:
        """Rows of consecutive blocks; updates ``state``.

        Args:
            blocks: [B, left_samples + frames_per_block * 640 + right_samples] float32; zero beyond both ends of the
                sound.
            state: made by ``initial_state`` and last seen with the block before ``blocks[0]``.

        Returns:
            [B * frames_per_block * rows_per_frame, F] float32.
        """

    def stream(self) -> FramewiseStream:
        """A stream that takes samples in pieces of any size."""
        return FramewiseStream(self)

    def extract(self, waveform: np.ndarray) -> np.ndarray:
        """Rows of a whole waveform.

        Args:
            waveform: [S] float at 16 kHz; a last partial frame counts as a frame, filled up with silence.

        Returns:
            [R, F] float32 with R = ceil(S / 640) * rate_hz / 25.
        """
        stream = self.stream()
        return np.concatenate([stream.push(waveform), stream.finish()])


class FramewiseStream:
    """Takes samples in pieces of any size and returns each row once, as soon as it is final."""

    def __init__(self, features: FramewiseFeatures):
        self._features = features
        self._state = features.initial_state()
        self._buffer = np.zeros(features.left_samples, np.float32)
        self._num_samples = 0
        self._num_rows = 0
        self._finished = False

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Rows that became final.

        Args:
            samples: [S] float at 16 kHz, the continuation of what was pushed before.

        Returns:
            [r, F] float32, r >= 0.
        """
        if self._finished:
            raise InputError("feature stream", "samples before finish()", "samples after it", "start another stream")
        samples = check_waveform(samples)
        self._num_samples += len(samples)
        return self._append(samples)

    def finish(self) -> np.ndarray:
        """The remaining rows, with silence after the end. The stream takes nothing afterwards.

        Returns:
            [r, F] float32.
        """
        if self._finished:
            raise InputError("feature stream", "one finish()", "a second one", "start another stream")
        self._finished = True
        features = self._features
        num_frames = num_frames_for_samples(self._num_samples)
        num_blocks = -(-num_frames // features.frames_per_block)
        num_padded = num_blocks * features.frames_per_block * SAMPLES_PER_FRAME + features.right_samples
        already = self._num_rows
        rows = self._append(np.zeros(num_padded - self._num_samples, np.float32))
        return rows[: num_frames * features.rows_per_frame - already]

    def _append(self, samples: np.ndarray) -> np.ndarray:
        features = self._features
        step = features.frames_per_block * SAMPLES_PER_FRAME
        context = features.left_samples + features.right_samples
        buffer = np.concatenate([self._buffer, samples])
        num_blocks = max(0, (len(buffer) - context) // step)
        outputs = [np.zeros((0, features.dim), np.float32)]
        for first in range(0, num_blocks, MAX_BLOCKS_AT_ONCE):
            last = min(num_blocks, first + MAX_BLOCKS_AT_ONCE)
            span = buffer[first * step : last * step + context]
            blocks = np.lib.stride_tricks.sliding_window_view(span, context + step)[::step]
            outputs.append(features.rows(blocks, self._state).astype(np.float32, copy=False))
        self._buffer = buffer[num_blocks * step :].copy()
        rows = np.concatenate(outputs)
        self._num_rows += len(rows)
        return rows


class CombinedFeatures:
    """Several features side by side at the lowest of their rates.

    Rows of a faster part are averaged in groups, which keeps every row centred on its own instant.
    """

    def __init__(self, parts: list[FramewiseFeatures]):
        self.parts = parts
        self.name = "+".join(part.name for part in parts)
        self.dim = sum(part.dim for part in parts)
        self.rate_hz = min(part.rate_hz for part in parts)
        for part in parts:
            if part.rate_hz % self.rate_hz:
                raise InputError(
                    f"audio features {self.name!r}",
                    "rates that divide each other",
                    ", ".join(f"{p.name} {p.rate_hz} Hz" for p in parts),
                    "combine others",
                )

    @property
    def rows_per_frame(self) -> int:
        return self.rate_hz // FRAME_RATE

    @property
    def lookahead_samples(self) -> int:
        return max(part.lookahead_samples for part in self.parts)

    @property
    def lookahead_s(self) -> float:
        return self.lookahead_samples / SAMPLE_RATE

    def stream(self) -> CombinedStream:
        return CombinedStream(self)

    def extract(self, waveform: np.ndarray) -> np.ndarray:
        """Rows of a whole waveform: [S] float at 16 kHz -> [R, F] float32."""
        stream = self.stream()
        return np.concatenate([stream.push(waveform), stream.finish()])


class CombinedStream:
    """The streams of the parts in step: a row is returned when all parts have theirs."""

    def __init__(self, features: CombinedFeatures):
        self._features = features
        self._streams = [part.stream() for part in features.parts]
        self._waiting = [np.zeros((0, part.dim), np.float32) for part in features.parts]

    def push(self, samples: np.ndarray) -> np.ndarray:
        """As ``FramewiseStream.push``."""
        return self._advance(lambda stream: stream.push(samples))

    def finish(self) -> np.ndarray:
        """As ``FramewiseStream.finish``."""
        return self._advance(lambda stream: stream.finish())

    def _advance(self, step: Callable[[FramewiseStream], np.ndarray]) -> np.ndarray:
        rate_hz = self._features.rate_hz
        for index, (part, stream) in enumerate(zip(self._features.parts, self._streams, strict=True)):
            rows = step(stream)
            group = part.rate_hz // rate_hz
            # A stream returns whole frames, so groups are never cut.
            rows = rows.reshape(-1, group, part.dim).mean(axis=1)
            self._waiting[index] = np.concatenate([self._waiting[index], rows])
        num_ready = min(len(rows) for rows in self._waiting)
        ready = np.concatenate([rows[:num_ready] for rows in self._waiting], axis=1)
        self._waiting = [rows[num_ready:] for rows in self._waiting]
        return ready
