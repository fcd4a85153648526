"""An audio encoder of one linear map, for recordings of which a network would learn the noise.

It takes the place of `m2dao.audio.encoder.AudioEncoder`: the same windows in, an embedding a frame out.
Shapes: T frames, L rows a window, F values a row, N inputs, D embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearEncoder(nn.Module):
    """Windows to embeddings: rows averaged over each of a window's frames, then one linear map.

    Args:
        num_features: F.
        window_rows: L.
        rows_per_frame: how many rows are averaged.
        dim: D.
    """

    lookahead_frames = 0

    def __init__(self, num_features: int, window_rows: int, *, rows_per_frame: int, dim: int):
        super().__init__()
        self.rows_per_frame = rows_per_frame
        self.dim = dim
        self.map = nn.Linear(num_features * window_rows // rows_per_frame, dim)

    def inputs(self, windows: Tensor) -> Tensor:
        """What is mapped: [T, L, F] -> [T, N]."""
        return windows.unflatten(1, (-1, self.rows_per_frame)).mean(dim=2).flatten(1)

    def forward(self, windows: Tensor) -> Tensor:  # [T, L, F] -> [T, D]
        return self.map(self.inputs(windows))

    def stream(self) -> LinearStream:
        """A stream with the values of ``forward``."""
        return LinearStream(self)


class LinearStream:
    """Embeddings of frames whose windows arrive in pieces; keeps nothing."""

    def __init__(self, encoder: LinearEncoder):
        self._encoder = encoder

    @torch.no_grad()
    def push(self, windows: Tensor) -> Tensor:
        """The next windows [t, L, F] -> their embeddings [t, D]."""
        return self._encoder(windows)

    def finish(self) -> Tensor:
        """Nothing is missing: [0, D]."""
        return self._encoder.map.weight.new_zeros((0, self._encoder.dim))
