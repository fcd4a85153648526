"""Stores sound without loss, for the way from where it was decoded to where it is heard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from m2dao.media.container import open_media, sound_stream
from m2dao.media.sound.decoding import as_float
from m2dao.media.sound.formats import SoundFormat


def write_flac(path: Path, pieces: Iterable[np.ndarray], sound: SoundFormat) -> None:
    """Write float32 [C, s] pieces as FLAC of 16 bits, in memory that does not grow with the length."""
    with av.open(f"file:{path}", "w", format="flac") as container:
        options = {"compression_level": "2"}  # half of the size for little time; more time saves little
        stream = container.add_stream("flac", rate=sound.sample_rate, layout=sound.layout, options=options)
        stream.format = "s16"
        num_samples = 0
        for piece in pieces:
            if not piece.shape[1]:
                continue
            samples = np.round(np.clip(piece, -1.0, 1.0).T * 32767.0).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples.reshape(1, -1)), format="s16", layout=sound.layout
            )
            frame.sample_rate, frame.pts = sound.sample_rate, num_samples
            frame.time_base = Fraction(1, sound.sample_rate)
            num_samples += piece.shape[1]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read_stored(path: Path) -> tuple[SoundFormat, Iterator[np.ndarray]]:
    """Format and float32 [C, s] pieces of a sound that ``write_flac`` or ``write_wav`` stored.

    Nothing is surveyed or chosen: the file is ours.
    """
    with open_media(path, sound_only=True) as container:
        stream = sound_stream(container, 0)
        sound = SoundFormat(stream.rate, stream.channels)

    def pieces() -> Iterator[np.ndarray]:
        with open_media(path, sound_only=True) as container:
            for frame in container.decode(sound_stream(container, 0)):
                yield as_float(frame)

    return sound, pieces()
