"""Turns sound into the audio embedding that drives facial and oral motion.

Encoders learn where the person's own lips are before any picture is rendered. Their *articulation* says it: the
principal components of the lip landmarks in head space. That is what an audio-visual encoder is for, and it makes the
embedding explicit about the mouth from the first step. We take the mean of several encoders, each trained without
another part of the recording, because its error is less than that of one (bootstrap aggregating, Breiman, 1996).
Shapes: R feature rows, F values a row, T frames, L rows a window, D embedding, one number for each articulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from m2dao.audio.encoder import AudioEncoder
from m2dao.audio.features import feature_version, get_extractor
from m2dao.audio.linear_encoder import LinearEncoder
from m2dao.audio.windows import WindowShape, WindowStream, audio_windows
from m2dao.errors import ConfigError
from m2dao.timeline import FRAME_RATE, SAMPLES_PER_FRAME

ENCODERS = ("network", "map")
NUM_ENCODERS, _MAX_ENCODERS = 4, 16
_MAX_EMBEDDING = 8.0  # standard deviations; the widest of the voices tried went to 6


@dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """Which sound features and how they are looked at.

    Args:
        features: name for :func:`m2dao.audio.features.get_extractor`.
        num_features: F.
        rows_per_frame: feature rows a video frame.
        frames_per_window: window of one frame, in frames.
        window_lookahead_frames: how many of them lie after the frame's instant.
        encoder_lookahead_frames: later frames the smoothing attends to.
        embedding_size: D.
        num_encoders: whose mean is taken.
        encoder: ``network``, see audio/encoder.py, or ``map``, see audio/linear_encoder.py.
        features_version: of the features at the time of the fit; today's when not given.

    Raises:
        ConfigError: a size out of range, or features that give other rows by now.
    """

    features: str
    num_features: int
    rows_per_frame: int
    frames_per_window: int = 8
    window_lookahead_frames: int = 3
    encoder_lookahead_frames: int = (
        0  # 3 predicts held-out lips no better and keeps a live stream waiting 120 ms longer
    )
    embedding_size: int = 8
    num_encoders: int = NUM_ENCODERS
    features_version: str = ""
    encoder: str = "network"

    def __post_init__(self):
        today = feature_version(self.features)
        if self.features_version not in ("", today):
            raise ConfigError(
                "audio features", today, self.features_version, "fit the identity again with this program"
            )
        object.__setattr__(self, "features_version", today)
        if self.encoder not in ENCODERS:
            raise ConfigError("speech encoder", " or ".join(ENCODERS), repr(self.encoder))
        for name in ("num_features", "rows_per_frame", "frames_per_window", "embedding_size", "num_encoders"):
            most = _MAX_ENCODERS if name == "num_encoders" else 4096
            if not (isinstance(getattr(self, name), int) and 1 <= getattr(self, name) <= most):
                raise ConfigError(f"speech {name}", f"1 to {most}", str(getattr(self, name)))

    @property
    def window_shape(self) -> WindowShape:
        return WindowShape(
            rows_per_frame=self.rows_per_frame,
            frames_per_window=self.frames_per_window,
            lookahead_frames=self.window_lookahead_frames,
        )

    @property
    def lookahead_s(self) -> float:
        """Sound that must be known after a frame's instant, the features' own look-ahead included."""
        own = get_extractor(self.features).lookahead_s
        return own + (self.window_lookahead_frames + self.encoder_lookahead_frames) / FRAME_RATE


def _make_network(config: SpeechConfig) -> AudioEncoder:
    return AudioEncoder(
        config.num_features,
        config.window_shape.num_rows,
        dim=config.embedding_size,
        lookahead_frames=config.encoder_lookahead_frames,
    )


def _make_map(config: SpeechConfig) -> LinearEncoder:
    return LinearEncoder(
        config.num_features,
        config.window_shape.num_rows,
        rows_per_frame=config.rows_per_frame,
        dim=config.embedding_size,
    )


class SpeechDriver(nn.Module):
    """Features to articulation, and that centred and scaled to an embedding."""

    feature_mean: Tensor  # [F]
    feature_std: Tensor  # [F]
    embedding_mean: Tensor  # [D]
    embedding_std: Tensor  # [D]

    def __init__(self, config: SpeechConfig):
        super().__init__()
        self.config = config
        make = _make_network if config.encoder == "network" else _make_map
        self.encoders: Sequence[AudioEncoder | LinearEncoder] = nn.ModuleList(  # type: ignore[assignment]  # which mypy takes for modules
            make(config) for _ in range(config.num_encoders)
        )
        self.register_buffer("feature_mean", torch.zeros(config.num_features))
        self.register_buffer("feature_std", torch.ones(config.num_features))
        self.register_buffer("embedding_mean", torch.zeros(config.embedding_size))
        self.register_buffer("embedding_std", torch.ones(config.embedding_size))

    def windows(self, features: np.ndarray | Tensor, num_frames: int) -> Tensor:
        """All windows of a clip: [R, F] -> [T, L, F]."""
        windows = audio_windows(
            torch.as_tensor(features, dtype=torch.float32),
            num_frames,
            frames_per_window=self.config.frames_per_window,
            lookahead_frames=self.config.window_lookahead_frames,
        )
        return torch.as_tensor(windows)

    def normalise(self, windows: Tensor) -> Tensor:
        return (windows - self.feature_mean) / self.feature_std

    def forward(self, windows: Tensor) -> Tensor:
        """Embeddings of consecutive frames of order one: [T, L, F] -> [T, D]."""
        return self.standardise(self.articulation(self.normalise(windows)))

    def articulation(self, windows: Tensor) -> Tensor:
        """What the encoders make of normalised windows, on average: [T, L, F] -> [T, D]."""
        return torch.stack([encoder(windows) for encoder in self.encoders]).mean(0)

    def standardise(self, articulation: Tensor) -> Tensor:
        """Articulation [T, D], centred and scaled, and no further off than any voice goes.

        Sounds that are like nothing the encoders have learned from must not tear a face apart."""
        return ((articulation - self.embedding_mean) / self.embedding_std).clamp(-_MAX_EMBEDDING, _MAX_EMBEDDING)

    def stream(self) -> SpeechStream:
        """Embeddings of sound that arrives in pieces; the values of :meth:`forward`."""
        return SpeechStream(self)


class SpeechStream:
    """Samples in, embeddings out, in constant memory."""

    def __init__(self, driver: SpeechDriver):
        self._driver = driver
        self._features = get_extractor(driver.config.features).stream()
        self._windows = WindowStream(driver.config.window_shape, driver.config.num_features)
        self._encoders = [encoder.stream() for encoder in driver.encoders]
        self._num_samples = 0

    @torch.no_grad()
    def push(self, samples: np.ndarray) -> Tensor:
        """The next samples [S] float32 at 16 kHz -> embeddings that are final now [t, D]."""
        self._num_samples += len(samples)
        return self._embed(self._windows.push(self._features.push(samples)), last=False)

    @torch.no_grad()
    def finish(self) -> Tensor:
        """The embeddings still missing [t, D]; the last frame is filled up with silence."""
        rest = -self._num_samples % SAMPLES_PER_FRAME
        first = self.push(np.zeros(rest, np.float32)) if rest else None
        windows = self._windows.push(self._features.finish())
        windows = np.concatenate([windows, self._windows.finish()])
        final = self._embed(windows, last=True)
        return final if first is None else torch.cat([first, final])

    def _embed(self, windows: np.ndarray, *, last: bool) -> Tensor:
        rows = self._driver.normalise(torch.from_numpy(windows))
        parts = [stream.push(rows) for stream in self._encoders]
        if last:
            parts = [torch.cat([part, stream.finish()]) for part, stream in zip(parts, self._encoders, strict=True)]
        return self._driver.standardise(torch.stack(parts).mean(0))
