"""Sound files in the voices of the presenters."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from m2dao.presenter.people import get_person
from m2dao.timeline import SAMPLE_RATE
from m2dao.tts import Voice, synthesise


def speak(sentence: str, voice: str | Voice, path: str | Path, *, seed: int = 0) -> Path:
    """Write ``sentence`` spoken by ``voice`` as 16 kHz mono 16-bit WAV and return the path.

    Args:
        sentence: English text.
        voice: a presenter's name, or a voice of your own.
        path: the file to write.
        seed: of the breath noise.

    Raises:
        ConfigError: unknown presenter, or nothing to say.
    """
    chosen = get_person(voice).voice if isinstance(voice, str) else voice
    waveform = synthesise(sentence, chosen, seed=seed).waveform
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(waveform, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())
    return path
