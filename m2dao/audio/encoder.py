"""The trainable audio encoder: a window of features a frame in, a smooth embedding a frame out.

The shape is the one of the field (AD-NeRF, section 3.2; TalkingGaussian, section 3.2): convolutions shrink the window
of a frame to one vector, then attention over eight neighbouring frames smooths the sequence.

Shapes: T frames, L rows a window, F values a row, N = 8 neighbours, D embedding, B frames.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from m2dao.errors import ConfigError, InputError

NUM_NEIGHBOURS = 8


class AudioEncoder(nn.Module):
    """Windows to embeddings.

    Args:
        num_features: F.
        window_rows: L.
        dim: D.
        width: channels inside the convolutions.
        lookahead_frames: how many of the eight neighbours come after the frame; the rest minus the frame itself comes
            before it. 3 is a delay of 120 ms.

    Attributes:
        lookahead_frames: later frames whose windows must be known before an embedding is final.
    """

    def __init__(
        self, num_features: int, window_rows: int, *, dim: int = 32, width: int = 48, lookahead_frames: int = 3
    ):
        super().__init__()
        if not 0 <= lookahead_frames < NUM_NEIGHBOURS:
            raise ConfigError("audio encoder", f"lookahead_frames in 0..{NUM_NEIGHBOURS - 1}", str(lookahead_frames))
        if num_features < 1 or window_rows < 1:
            raise ConfigError("audio encoder", "at least one feature and one row", f"{num_features} x {window_rows}")
        self.num_features = num_features
        self.window_rows = window_rows
        self.dim = dim
        self.lookahead_frames = lookahead_frames
        self.window_net = _WindowNet(num_features, window_rows, width=width, dim=dim)
        self.smoothing = _NeighbourAttention(dim)

    def forward(self, windows: Tensor) -> Tensor:  # [T, L, F] -> [T, D]
        """Embeddings of consecutive frames; before the first and after the last frame that frame is repeated."""
        self._check(windows)
        vectors = self.window_net(windows)
        indices = torch.from_numpy(self.neighbours(np.arange(len(vectors)), len(vectors)))
        return self.smoothing(vectors[indices.to(vectors.device)])

    def neighbours(self, frames: np.ndarray, num_frames: int) -> np.ndarray:
        """The eight frames that each frame's embedding looks at: [B] int -> [B, N] int, ends repeated."""
        offsets = np.arange(NUM_NEIGHBOURS) - (NUM_NEIGHBOURS - 1 - self.lookahead_frames)
        return np.clip(np.asarray(frames)[:, None] + offsets, 0, num_frames - 1)

    def stream(self) -> EncoderStream:
        """A stream with the values of ``forward``."""
        return EncoderStream(self)

    def _check(self, windows: Tensor) -> None:
        if windows.ndim != 3 or tuple(windows.shape[-2:]) != (self.window_rows, self.num_features):
            raise InputError(
                "audio windows",
                f"3 axes ending in [{self.window_rows}, {self.num_features}]",
                str(list(windows.shape)),
                "use the features and the window length that the encoder was built for",
            )


class EncoderStream:
    """Embeddings of frames whose windows arrive in pieces; keeps eight vectors."""

    def __init__(self, encoder: AudioEncoder):
        self._encoder = encoder
        self._vectors: Tensor | None = None  # window vectors from frame ``_first`` on
        self._first = 0
        self._next_frame = 0
        self._finished = False

    @torch.no_grad()
    def push(self, windows: Tensor) -> Tensor:
        """The next windows [t, L, F] -> embeddings that are final now [t', D]."""
        if self._finished:
            raise InputError("encoder stream", "windows before finish()", "windows after it", "start another stream")
        self._encoder._check(windows)
        if len(windows):
            vectors = self._encoder.window_net(windows)
            self._vectors = vectors if self._vectors is None else torch.cat([self._vectors, vectors])
        return self._emit(self._num_seen() - self._encoder.lookahead_frames)

    @torch.no_grad()
    def finish(self) -> Tensor:
        """The embeddings still missing [t', D], with the last frame repeated after the end."""
        self._finished = True
        return self._emit(self._num_seen())

    def _num_seen(self) -> int:
        return self._first + (0 if self._vectors is None else len(self._vectors))

    def _emit(self, stop: int) -> Tensor:
        frames = np.arange(self._next_frame, max(stop, self._next_frame))
        if self._vectors is None or len(frames) == 0:
            parameter = next(self._encoder.parameters())
            return parameter.new_zeros((0, self._encoder.dim))
        indices = self._encoder.neighbours(frames, self._num_seen()) - self._first
        embeddings = self._encoder.smoothing(self._vectors[torch.from_numpy(indices)])
        self._next_frame = int(frames[-1]) + 1
        oldest = self._next_frame - (NUM_NEIGHBOURS - 1 - self._encoder.lookahead_frames)
        num_done = min(max(0, oldest - self._first), len(self._vectors) - 1)
        self._vectors = self._vectors[num_done:].clone()
        self._first += num_done
        return embeddings


class _WindowNet(nn.Module):
    """One window to one vector: mix each row's features, then halve the rows until two are left."""

    def __init__(self, num_features: int, window_rows: int, *, width: int, dim: int):
        super().__init__()
        self.mix_features = nn.Linear(num_features, width)
        halvings = []
        rows = window_rows
        while rows > 2:
            halvings.append(nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1))
            rows = (rows + 1) // 2
        self.halvings = nn.ModuleList(halvings)
        self.head = nn.Linear(width * rows, dim)
        self.activation = nn.LeakyReLU(0.02)

    def forward(self, windows: Tensor) -> Tensor:  # [T, L, F] -> [T, D]
        hidden = self.activation(self.mix_features(windows)).transpose(1, 2)
        for halving in self.halvings:
            hidden = self.activation(halving(hidden))
        return self.head(hidden.flatten(1))


class _NeighbourAttention(nn.Module):
    """A convex combination of eight neighbouring frames, weighted by what the vectors themselves show."""

    def __init__(self, dim: int):
        super().__init__()
        channels = (dim, 16, 8, 4, 1)
        self.scores = nn.Sequential()
        for before, after in zip(channels[:-1], channels[1:], strict=True):
            self.scores.append(nn.Conv1d(before, after, kernel_size=3, padding=1))
            self.scores.append(nn.LeakyReLU(0.02))
        self.balance = nn.Linear(NUM_NEIGHBOURS, NUM_NEIGHBOURS)

    def forward(self, vectors: Tensor) -> Tensor:  # [B, N, D] -> [B, D]
        scores = self.scores(vectors.transpose(1, 2)).squeeze(1)
        weights = torch.softmax(self.balance(scores), dim=1)
        return torch.einsum("bn,bnd->bd", weights, vectors)
