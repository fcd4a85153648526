"""Changes sample rates while sound streams by."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np

_LAYOUTS = {1: "mono", 2: "stereo"}


class Resampler:
    """Float32 [C, S] at any rate, which may change in the middle, to float32 [C, S'] at one rate.

    Args:
        sample_rate: that comes out.
        num_channels: 1 or 2, of what goes in and what comes out.
    """

    def __init__(self, sample_rate: int, num_channels: int = 1):
        self._sample_rate, self._layout = sample_rate, _LAYOUTS[num_channels]
        self._resampler: av.AudioResampler | None = None
        self._given = 0

    def push(self, samples: np.ndarray, sample_rate: int) -> Iterator[np.ndarray]:
        """What is ready after some more samples."""
        if self._resampler is not None and sample_rate != self._given:
            yield from self.finish()
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="fltp", layout=self._layout, rate=self._sample_rate)
            self._given = sample_rate
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples, np.float32), format="fltp", layout=self._layout
        )
        frame.sample_rate = sample_rate
        yield from self._taken(self._resampler.resample(frame))

    def finish(self) -> Iterator[np.ndarray]:
        """What the filter still holds."""
        if self._resampler is not None:
            resampler, self._resampler = self._resampler, None
            yield from self._taken(resampler.resample(None))

    @staticmethod
    def _taken(frames: list[av.AudioFrame]) -> Iterator[np.ndarray]:
        for frame in frames:
            if frame.samples:
                yield np.clip(frame.to_ndarray(), -1.0, 1.0)
