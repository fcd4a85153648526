"""Small videos built by code for the tests of media and capture."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from m2dao.timeline import SAMPLE_RATE


def gray_code_frame(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """uint8 [H, W, 3] that shows `number` (0..255) as eight black or white columns."""
    bits = [(number >> bit) & 1 for bit in range(8)]
    columns = np.repeat(np.array(bits, np.uint8) * 235 + 10, -(-width // 8))[:width]
    return np.broadcast_to(columns[None, :, None], (height, width, 3)).copy()


def read_number(rgb: np.ndarray) -> int:
    """The number a `gray_code_frame` shows, after any lossy coding and scaling."""
    width = rgb.shape[1]
    centres = ((np.arange(8) + 0.5) * width / 8).astype(int)
    return int(sum(1 << bit for bit, x in enumerate(centres) if rgb[:, x].mean() > 128))


def write_video(
    path: Path,
    times_s: list[Fraction | float],
    frames: list[np.ndarray],
    *,
    waveform: np.ndarray | None = None,
    sound_start_s: float = 0.0,
    sample_rate: int = SAMPLE_RATE,
    rotation_deg: int = 0,
    codec: str = "libx264",
    audio_codec: str | None = None,
    options: dict | None = None,
) -> Path:
    """Write `frames` at the instants `times_s`; the container follows from the suffix."""
    time_base = Fraction(1, 90_000)
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(
            codec, rate=30, options={"crf": "12", "bf": "0", "preset": "ultrafast"} if codec == "libx264" else {}
        )
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = time_base
        if rotation_deg:
            video.set_display_rotation(rotation_deg)
        audio = None
        if waveform is not None:
            audio = container.add_stream(audio_codec or "aac", rate=sample_rate, layout="mono")
        for time, rgb in zip(times_s, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = round(Fraction(time) / time_base), time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(waveform.astype(np.float32)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = sample_rate, Fraction(1, sample_rate)
            frame.pts = round(sound_start_s * sample_rate)
            resampler = av.AudioResampler(format=audio.codec_context.format, layout="mono", rate=sample_rate)
            offset = frame.pts
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                piece.pts, piece.time_base = offset, Fraction(1, sample_rate)
                offset += piece.samples
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def click_track(num_samples: int, at: int, length: int = 80) -> np.ndarray:
    """Silence with one loud burst beginning at sample `at`."""
    waveform = np.zeros(num_samples, np.float32)
    waveform[at : at + length] = 0.9 * np.sin(np.arange(length) * 2 * np.pi * 2000 / SAMPLE_RATE)
    return waveform


def click_position(waveform: np.ndarray) -> int:
    """First sample of the loud burst."""
    return int(np.argmax(np.abs(waveform) > 0.4))
