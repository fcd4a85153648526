"""Decodes one upload; runs inside a contained process, called by ``decode.py``.

Uploads are hostile: a crafted file may make a decoder run for ever, use up the memory, read other files (playlists
name them) or take the process over. So this runs where nothing else can be reached (``m2dao/contain``), and hands back
a plain normalised file and a few numbers.
"""

from __future__ import annotations

import tempfile
import wave
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from m2dao.errors import MediaError
from m2dao.media.audio import read_both, sent_format, write_wav
from m2dao.media.container import MediaLimits
from m2dao.media.photo import WEB_FORMATS, read_photo
from m2dao.media.sound.formats import SoundFormat
from m2dao.media.sound.storing import write_flac
from m2dao.media.sound.voices import load_detector
from m2dao.timeline import SAMPLE_RATE, SAMPLES_PER_FRAME

MAX_BACKGROUND_SIDE = 2048  # pixels; more is never shown

load_detector()  # a process that is shut in could not read its file any more


def warm_up(folder: str) -> None:
    """Decode a sound of our own, made in ``folder``, so that no upload waits for what that loads."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        source, target, sent = (f"{work}/{name}" for name in ("upload.wav", "speech.wav", "sound.flac"))
        with wave.open(source, "wb") as sound:
            sound.setparams((1, 2, 2 * SAMPLE_RATE, 0, "NONE", ""))  # a rate at which it is resampled and kept as FLAC
            sound.writeframes(bytes(SAMPLE_RATE))
        decode_audio(None, source, target, sent, max_audio_s=1.0)


def decode_audio(say: object, source: str, target: str, sent: str, max_audio_s: float) -> dict[str, Any]:
    """Write the upload's sound to ``target`` as 16 kHz mono WAV, and to ``sent`` as it came, as FLAC.

    Nothing is written to ``sent`` where it came as 16 kHz mono: it would be the same sound.

    Raises:
        MediaError: it is no sound file of a known kind, or its length, sample rate or channels are out of bounds.
    """
    limits = MediaLimits(max_duration_s=max_audio_s)
    sound, heard = sent_format(source, limits=limits), []

    def as_sent() -> Iterator[np.ndarray]:
        for piece, same_as_sent in read_both(source, limits=limits):
            heard.append(piece)
            yield same_as_sent

    is_other = sound != SoundFormat()
    if is_other:
        write_flac(Path(sent), as_sent(), sound)
    else:
        deque(as_sent(), maxlen=0)
    waveform = np.concatenate(heard)  # [S]
    seconds = len(waveform) / SAMPLE_RATE
    if len(waveform) < SAMPLES_PER_FRAME:
        raise MediaError("the sound", f"at least {SAMPLES_PER_FRAME / SAMPLE_RATE:g} s", f"{seconds:.3f} s")
    write_wav(Path(target), waveform)
    return {"seconds": seconds, "num_samples": len(waveform), "is_other": is_other}


def decode_image(say: object, source: str, target: str, max_image_pixels: int) -> dict[str, Any]:
    """Write the uploaded picture as an upright RGB PNG of at most ``MAX_BACKGROUND_SIDE``.

    Raises:
        MediaError: it is no JPEG, PNG or WebP, it is damaged, or it has too many pixels.
    """
    rgb = read_photo(source, subject="background_image", formats=WEB_FORMATS, max_pixels=max_image_pixels)
    upright = Image.fromarray(rgb)
    upright.thumbnail((MAX_BACKGROUND_SIDE, MAX_BACKGROUND_SIDE))
    upright.save(target, format="PNG", compress_level=1)
    return {"width": upright.width, "height": upright.height}
