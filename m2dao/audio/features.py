"""Audio features by name.

| name | rows per second | F | what it is |
|---|---|---|---|
| logmel | 100 | 80 | log-mel spectrogram relative to the speech level |
| phones | 100 | 40 | roots of the posteriors of 39 phones and silence |
| whisper | 50 | 512 | states of the encoder of whisper-base (needs its model file, heavy) |

Names joined with ``+`` give the features side by side. How they compare: docs/results/2026-11-22-audio-features.md.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from m2dao.errors import ConfigError

# To be raised with every change that gives other rows for the same sound: rows that were stored, and fields that were
# fitted on them, do not go with those of another version.
FEATURE_VERSIONS = {"logmel": 1, "phones": 2, "whisper": 1}
FEATURE_NAMES = tuple(FEATURE_VERSIONS)
# The most accurate across speakers among those of little look-ahead; see docs/decisions/phones-drive-the-lips.md.
DEFAULT_FEATURES = "phones"


@runtime_checkable
class FeatureStream(Protocol):
    """Takes samples in pieces of any size; returns every row once, in order."""

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The next samples [S] -> rows that are final now [r, F]."""

    def finish(self) -> np.ndarray:
        """The rows still missing [r, F]: in all ceil(S / 640) * rate_hz / 25."""


@runtime_checkable
class FeatureExtractor(Protocol):
    """One kind of audio feature, see ``m2dao.audio.framewise`` for its clock."""

    name: str
    dim: int

    @property
    def rate_hz(self) -> int:
        """Rows per second, a multiple of 25."""

    @property
    def lookahead_s(self) -> float:
        """Sound needed after the end of a frame before all rows of that frame are final."""

    def extract(self, waveform: np.ndarray) -> np.ndarray:
        """A whole waveform [S] -> [R, F]; the rows that ``stream`` gives for the same samples."""

    def stream(self) -> FeatureStream:
        """A new stream, in constant memory for sound of any length."""


def get_extractor(name: str = DEFAULT_FEATURES) -> FeatureExtractor:
    """The extractor called ``name``: one of ``FEATURE_NAMES`` or several joined with ``+``.

    Raises:
        ConfigError: an unknown name, or one used twice.
        AssetError: the model file of the feature cannot be had.
    """
    parts = name.split("+")
    unknown = [part for part in parts if part not in FEATURE_NAMES]
    if unknown or len(set(parts)) != len(parts):
        raise ConfigError(
            f"audio features {name!r}",
            f"different names out of {', '.join(FEATURE_NAMES)} joined with '+'",
            ", ".join(unknown) if unknown else "a name twice",
        )
    extractors = [_single(part) for part in parts]
    if len(extractors) == 1:
        return extractors[0]
    from m2dao.audio.framewise import CombinedFeatures

    return CombinedFeatures(extractors)


def feature_version(name: str) -> str:
    """Which rows ``name`` gives today, for example ``"logmel:1+phones:2"``."""
    return "+".join(f"{part}:{FEATURE_VERSIONS.get(part, 0)}" for part in name.split("+"))


def _single(name: str):
    if name == "logmel":
        from m2dao.audio.logmel import LogMel

        return LogMel()
    if name == "phones":
        from m2dao.audio.phones import Phones

        return Phones()
    from m2dao.audio.whisper import WhisperEncoder

    return WhisperEncoder()
