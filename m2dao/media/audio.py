"""Sound decoding: any rate and channel count in, 16 kHz mono out, on the clock of `video.read_frames`."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import av.error
import numpy as np

from m2dao.errors import MediaError
from m2dao.media.container import (
    DEFAULT_LIMITS,
    SOUND_CODECS,
    MediaLimits,
    container_duration_s,
    open_media,
    shown_at_s,
)
from m2dao.timeline import SAMPLE_RATE

# Time stamps may differ from the running count of samples by rounding; from here on it is a hole or an overlap.
MAX_STAMP_ERROR_S = 0.02


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What a file says about its sound. `start_time_s` is on the container's clock."""

    path: Path
    codec: str
    sample_rate: int
    num_channels: int
    start_time_s: float
    duration_s: float | None


def probe_audio(path: Path | str, limits: MediaLimits = DEFAULT_LIMITS) -> AudioInfo:
    """Read the header of `path`.

    Raises:
        MediaError: no sound in it, not decodable, or outside `limits`.
    """
    path = Path(path)
    with open_media(path) as container:
        stream = _audio_stream(container, path, limits)
        context = stream.codec_context
        start_s = float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0
        duration_s = float(stream.duration * stream.time_base) if stream.duration else container_duration_s(container)
        return AudioInfo(
            path=path,
            codec=context.name,
            sample_rate=context.sample_rate,
            num_channels=context.channels,
            start_time_s=start_s,
            duration_s=duration_s,
        )


def read_audio(path: Path | str, *, limits: MediaLimits = DEFAULT_LIMITS, sound_only: bool = False) -> np.ndarray:
    """The sound of `path` as float32 [S] in -1..1, mono at 16 kHz.

    Sample 0 is heard when the first video frame is shown: sound that starts earlier is cut, sound that starts later is
    preceded by silence. In a file without video, sample 0 is the first sample stored.

    Args:
        path: the file.
        limits: what it may ask of the machine.
        sound_only: touch no decoder of pictures. Sample 0 is then the first sample stored in any file.

    Raises:
        MediaError: no sound in it, not decodable, or outside `limits`.
    """
    chunks = list(read_audio_chunks(path, limits=limits, sound_only=sound_only))
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)


def read_audio_chunks(
    path: Path | str, *, limits: MediaLimits = DEFAULT_LIMITS, sound_only: bool = False
) -> Iterator[np.ndarray]:
    """`read_audio` piece by piece, in memory that does not grow with the length; pieces are float32 [s]."""
    path = Path(path)
    start_s = None if sound_only else _video_start_s(path)
    with open_media(path, sound_only=sound_only) as container:
        stream = _audio_stream(container, path, limits)
        if sound_only and stream.codec_context.name not in SOUND_CODECS:  # the list binds ffmpeg's probing only
            raise MediaError(f"sound of {path}", "AAC, MP3, Opus, PCM or the like", stream.codec_context.name)
        num_out = 0
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        for native in _native_frames(container, stream, path, start_s):
            for piece in resampler.resample(native):
                samples = piece.to_ndarray().reshape(-1)
                num_out += len(samples)
                if num_out > limits.max_duration_s * SAMPLE_RATE:
                    raise MediaError(
                        f"sound of {path}",
                        f"at most {limits.max_duration_s:.0f} s",
                        "more",
                        "cut it to the part you need",
                    )
                yield np.clip(np.nan_to_num(samples), -1.0, 1.0).astype(np.float32)
        if num_out:
            for piece in resampler.resample(None):
                yield np.clip(np.nan_to_num(piece.to_ndarray().reshape(-1)), -1.0, 1.0).astype(np.float32)
        _check_complete(container, stream, path, start_s, num_out / SAMPLE_RATE)
    if not num_out:
        raise MediaError(f"sound of {path}", "samples", "an empty sound track", "record or export it again")


def as_16_bit(waveform: np.ndarray) -> np.ndarray:
    """float32 [S] with the values it will have after it was stored as 16-bit PCM and read again."""
    return np.round(np.clip(waveform, -1.0, 1.0) * 32767.0).astype(np.float32) / np.float32(32767.0)


def write_wav(target: Path | str | BinaryIO, waveform: np.ndarray) -> None:
    """Write float32 [S] at 16 kHz as 16-bit PCM to a path or an open binary file."""
    samples = np.round(as_16_bit(waveform) * 32767.0).astype("<i2")
    with wave.open(str(target) if isinstance(target, (str, Path)) else target, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(SAMPLE_RATE)
        output.writeframes(samples.tobytes())


def _native_frames(container, stream, path: Path, start_s: float | None) -> Iterator[av.AudioFrame]:
    """Frames at the stored rate with holes filled by silence and overlaps cut, from the clock's start on."""
    num_native = 0  # samples on the clock so far
    num_damaged = num_good = 0
    layout = None
    for frame in _decode(container, stream):
        if frame is None:
            num_damaged += 1
            continue
        num_good += 1
        rate, first_layout = frame.sample_rate, (frame.sample_rate, frame.layout.name, frame.format.name)
        layout = layout or first_layout
        if first_layout != layout:
            raise MediaError(
                f"sound of {path}", "one sample rate and channel layout", "a change in the middle", "export it again"
            )
        num_skip = 0
        if frame.pts is not None:
            if start_s is None:
                start_s = float(shown_at_s(frame))
            due = round((float(shown_at_s(frame)) - start_s) * rate)
            if due - num_native > MAX_STAMP_ERROR_S * rate:
                yield from _silence(frame, due - num_native)
                num_native = due
            elif num_native - due > (MAX_STAMP_ERROR_S * rate if num_native else 0):
                num_skip = num_native - due
        if num_skip < frame.samples:
            num_native += frame.samples - num_skip
            yield _tail(frame, num_skip)
    if not num_good:
        raise MediaError(f"sound of {path}", "a sound track that decodes", "none that does", "export it again")
    if num_damaged > 0.05 * (num_good + num_damaged):
        raise MediaError(
            f"sound of {path}",
            "an undamaged sound track",
            f"{num_damaged} damaged of {num_good + num_damaged} packets",
            "the file is truncated or damaged; export it again",
        )


def _check_complete(container, stream, path: Path, start_s: float | None, decoded_s: float) -> None:
    """Raise MediaError where an mp4 index promises clearly more sound than there is; others only estimate."""
    if "mp4" not in container.format.name or not stream.duration:
        return
    end_s = float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    declared_s = end_s - (start_s or 0.0)
    if decoded_s < 0.98 * declared_s - 0.5:
        raise MediaError(
            f"sound of {path}",
            f"the {declared_s:.2f} s its header declares",
            f"sound for {decoded_s:.2f} s",
            "the file is truncated or damaged; copy or export it again",
        )


def _decode(container, stream) -> Iterator[av.AudioFrame | None]:
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            yield None


def _tail(frame: av.AudioFrame, num_skip: int) -> av.AudioFrame:
    """`frame` without its first `num_skip` samples and without a time stamp; the resampler counts."""
    if num_skip:
        samples = frame.to_ndarray()
        num_channels = 1 if frame.format.is_planar else frame.layout.nb_channels
        rest: np.ndarray = np.ascontiguousarray(samples[:, num_skip * num_channels :])
        shorter = av.AudioFrame.from_ndarray(rest, frame.format.name, frame.layout.name)
        shorter.sample_rate = frame.sample_rate
        frame = shorter
    frame.pts = None
    return frame


def _silence(like: av.AudioFrame, num_samples: int) -> Iterator[av.AudioFrame]:
    """Silent frames in the format of `like`, at most a second each."""
    num_channels = like.layout.nb_channels
    template: np.ndarray = like.to_ndarray()
    level = 128 if template.dtype == np.uint8 else 0  # unsigned samples rest in the middle
    while num_samples > 0:
        num_now = min(num_samples, like.sample_rate)
        shape = (num_channels, num_now) if like.format.is_planar else (1, num_now * num_channels)
        samples: np.ndarray = np.full(shape, level, template.dtype)
        frame = av.AudioFrame.from_ndarray(samples, like.format.name, like.layout.name)
        frame.sample_rate = like.sample_rate
        num_samples -= num_now
        yield frame


def _audio_stream(container, path: Path, limits: MediaLimits):
    if not container.streams.audio:
        raise MediaError(f"sound of {path}", "a sound track", "none", "give a recording with picture and sound")
    stream = container.streams.best("audio") or container.streams.audio[0]
    context = stream.codec_context
    if context is None or not context.sample_rate or not context.channels:
        raise MediaError(
            f"sound of {path}", "a sound track that can be decoded", "an unknown codec", "export it as AAC or PCM"
        )
    if not limits.min_sample_rate <= context.sample_rate <= limits.max_sample_rate:
        raise MediaError(
            f"sound of {path}",
            f"{limits.min_sample_rate} to {limits.max_sample_rate} samples per second",
            f"{context.sample_rate}",
            "record the sound again at 16000 or more",
        )
    if context.channels > limits.max_channels:
        raise MediaError(
            f"sound of {path}", f"at most {limits.max_channels} channels", f"{context.channels}", "mix it down"
        )
    return stream


def _video_start_s(path: Path) -> float | None:
    """When the first picture is shown on the container's clock; None without moving pictures."""
    with open_media(path) as container:
        streams = [
            stream for stream in container.streams.video if not stream.disposition & stream.disposition.attached_pic
        ]
        if not streams:
            return None
        for packet in container.demux(streams[0]):
            try:
                for frame in packet.decode():
                    if frame.pts is not None:
                        return float(shown_at_s(frame))
            except av.error.InvalidDataError:
                continue
        return None
