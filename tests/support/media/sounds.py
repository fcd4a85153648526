"""Sounds and sound files built by code for the tests of media."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.signal import lfilter, resample_poly

VOWELS_HZ = ((700, 1200, 2600), (300, 2300, 3000), (450, 900, 2500), (550, 1800, 2500), (350, 800, 2300))


def spoken(seconds: float, rate: int = 16_000, *, seed: int = 0) -> np.ndarray:
    """float32 [S] that a detector takes for a voice: pulses of a throat through formants."""
    if rate != 16_000:
        return resample_poly(spoken(seconds, seed=seed), rate, 16_000).astype(np.float32)
    rng = np.random.default_rng(seed)
    num_samples, syllable = int(seconds * rate), int(0.2 * rate)
    time_s = np.arange(num_samples) / rate
    pitch_hz = 120 + 15 * np.sin(2 * np.pi * 0.7 * time_s) + 5 * np.sin(2 * np.pi * 3 * time_s)
    phase = np.cumsum(pitch_hz) / rate
    throat = (np.diff(np.floor(phase), prepend=0) > 0) + 0.01 * rng.normal(size=num_samples)
    out = np.zeros(num_samples)
    for start in range(0, num_samples, syllable):
        piece = throat[start : start + syllable]
        for formant_hz, width_hz in zip(VOWELS_HZ[rng.integers(len(VOWELS_HZ))], (80, 100, 150), strict=True):
            radius = np.exp(-np.pi * width_hz / rate)
            piece = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * formant_hz / rate), radius**2], piece)
        out[start : start + syllable] = piece * np.hanning(len(piece) + 2)[1:-1] / (np.abs(piece).max() + 1e-9)
    return (0.5 * out).astype(np.float32)


def tone(seconds: float, rate: int = 16_000, *, hz: float = 440.0, level: float = 0.3) -> np.ndarray:
    """float32 [S]."""
    return (level * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def similarity(found: np.ndarray, wanted: np.ndarray) -> float:
    """Correlation over what both have; 1 is the same sound at the same place."""
    length = min(len(found), len(wanted))
    return float(np.corrcoef(found[:length], wanted[:length])[0, 1])


def wav_bytes(samples: np.ndarray, rate: int, *, data_size: int | None = None, big_endian: bool = False) -> bytes:
    """A PCM16 WAV of float32 [C, S] or [S], with a data size of one's own."""
    planes = np.atleast_2d(samples)
    order = ">" if big_endian else "<"
    body = np.round(np.clip(planes.T, -1, 1) * 32767).astype(f"{order}i2").tobytes()
    size = len(body) if data_size is None else data_size
    num_channels = planes.shape[0]
    shape = struct.pack(f"{order}HHIIHH", 1, num_channels, rate, rate * 2 * num_channels, 2 * num_channels, 16)
    riff = struct.pack(f"{order}I", (36 + size) & 0xFFFFFFFF)
    header = (b"RIFX" if big_endian else b"RIFF") + riff + b"WAVEfmt " + struct.pack(f"{order}I", 16) + shape
    return header + b"data" + struct.pack(f"{order}I", size) + body


def write_sound(
    path: Path,
    tracks: list[np.ndarray],
    rate: int = 16_000,
    *,
    codec: str = "aac",
    titles: tuple[str, ...] = (),
    container: str | None = None,
) -> Path:
    """Write tracks of float32 [S] or [C, S] (mono or stereo)."""
    with av.open(str(path), "w", format=container) as output:
        streams = []
        for number, samples in enumerate(tracks):
            layout = "stereo" if np.atleast_2d(samples).shape[0] == 2 else "mono"
            stream = output.add_stream(codec, rate=rate, layout=layout)
            if number < len(titles):
                stream.metadata["title"] = titles[number]
            streams.append(stream)
        for stream, samples in zip(streams, tracks, strict=True):
            planes = np.ascontiguousarray(np.atleast_2d(samples), np.float32)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=stream.layout.name)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            resampler = av.AudioResampler(format=stream.format, layout=stream.layout, rate=stream.rate)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                output.mux(stream.encode(piece))
            output.mux(stream.encode(None))
    return path


def hide_codec(path: Path, number: int, fourcc: bytes = b"apac") -> None:
    """Give the n-th sound track of a mov or mp4 a codec that nobody decodes."""
    data = bytearray(path.read_bytes())
    entry = -1
    for _ in range(number + 1):
        entry = data.index(b"mp4a", entry + 1)
    data[entry : entry + 4] = fourcc
    described = data.index(b"esds", entry)
    data[described : described + 4] = b"free"
    path.write_bytes(data)
