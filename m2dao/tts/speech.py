"""What every synthesiser gives: sound and its phones; and what it takes: a voice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PEAK = 0.80  # of all speech that is made here, of full scale


@dataclass(frozen=True, kw_only=True)
class Voice:
    """Who speaks: a synthesiser's own timbre, and how it is bent.

    Args:
        pitch: factor on the fundamental frequency; eSpeak takes it as a share of its own range.
        tract: factor on the frequencies of the spectral envelope; below 1 is a longer vocal tract.
        pace: speaking rate, 1 is the synthesiser's own.
        timbre: ``"heart"``, the voice in the package hibari-tts, or one of `m2dao.tts.espeak.TIMBRES`.
    """

    pitch: float = 1.0
    tract: float = 1.0
    pace: float = 0.92
    timbre: str = "heart"


@dataclass(frozen=True)
class Phone:
    """One phone and when it sounds; ``symbol`` is ``""`` in a pause.

    Symbols are those of the International Phonetic Alphabet without stress and length. English of the timbre "heart"
    has single letters for its diphthongs: A, I, O, Q, W, Y.
    """

    symbol: str
    start_s: float
    end_s: float
    stressed: bool = False


@dataclass(frozen=True)
class Speech:
    """Sound and its phones, which tile it: waveform f32 [S] mono 16 kHz."""

    waveform: np.ndarray
    phones: tuple[Phone, ...]


def at_peak(waveform: np.ndarray) -> np.ndarray:
    """The same sound, as loud as all speech here: [S] -> f32 [S]."""
    return (waveform * np.float32(PEAK / max(float(np.abs(waveform).max()), 1e-6))).astype(np.float32)
