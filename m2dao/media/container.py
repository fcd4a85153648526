"""Opens files of unknown origin, with limits on what is read and how much.

A media file is foreign input. Play-list formats that make a demuxer open further files or addresses are not read, nor
is anything but a local file; sizes, lengths and rates are checked before memory is spent on them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error

from m2dao.errors import MediaError

# Containers that hold their own data. Not: hls, dash, concat, image sequences, devices.
READABLE_FORMATS = (
    "mov",
    "mp4",
    "m4a",
    "3gp",
    "3g2",
    "mj2",
    "matroska",
    "webm",
    "avi",
    "mpegts",
    "mpeg",
    "flv",
    "asf",
    "ogg",
    "wav",
    "w64",
    "aiff",
    "flac",
    "mp3",
    "aac",
    "amr",
    "caf",
    "mxf",
    "nut",
)


# Of these, what people keep or record speech in. Files with pictures are among them; their pictures are not read.
SOUND_FORMATS = tuple(name for name in READABLE_FORMATS if name not in ("avi", "mpegts", "mpeg", "flv", "mxf", "nut"))
# Decoders of sound. With such a list ffmpeg opens no other, not even to find out what a stream is.
SOUND_CODECS = (
    *("aac", "aac_latm", "alac", "flac", "mp2", "mp2float", "mp3", "mp3float", "opus", "libopus", "vorbis", "speex"),
    *("amrnb", "amrwb", "wmav1", "wmav2", "wmapro", "wmalossless", "ac3", "eac3", "dca", "wavpack", "tta", "ape"),
    *("mpc7", "mpc8", "adpcm_ima_wav", "adpcm_ms", "adpcm_ima_qt", "gsm", "gsm_ms", "pcm_alaw", "pcm_mulaw"),
    *("pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be"),
)


@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """What a file may ask of the machine before it is refused."""

    max_duration_s: float = 3 * 3600.0
    max_pixels: int = 8192 * 4352  # one 8K frame
    max_side: int = 8192
    max_frame_rate: float = 250.0
    min_sample_rate: int = 4000  # below this no consonant survives
    max_sample_rate: int = 384_000
    max_channels: int = 32
    max_damaged_fraction: float = 0.02

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"MediaLimits.{name}: expected a positive number, got {value}")


DEFAULT_LIMITS = MediaLimits()


@contextlib.contextmanager
def open_media(path: Path | str, *, sound_only: bool = False) -> Iterator[av.container.InputContainer]:
    """Open a local media file for reading; foreign errors while it is open come out as MediaError.

    Args:
        sound_only: open no decoder of pictures, and containers of sound only. Every decoder is a way in for a crafted
            file, and those of pictures are the most and the largest.
    """
    path = Path(path)
    if not path.is_file():
        raise MediaError(
            str(path), "a media file", "a folder" if path.is_dir() else "nothing of this name", "check the path"
        )
    if path.stat().st_size == 0:
        raise MediaError(str(path), "a media file", "an empty file (0 bytes)", "copy or export it again")
    formats = SOUND_FORMATS if sound_only else READABLE_FORMATS
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(formats)}
    if sound_only:
        options["codec_whitelist"] = ",".join(SOUND_CODECS)
    try:
        with av.open(f"file:{path}", container_options=options) as container:
            yield container
    except av.error.FFmpegError as error:
        raise MediaError(
            str(path),
            "a complete video or sound file (mp4, mov, mkv, webm, avi, wav, flac, mp3, ...)",
            f"data that cannot be decoded ({error.strerror})",
            "the file is truncated, damaged or of another kind; export it again",
        ) from error


def shown_at_s(frame: av.VideoFrame | av.AudioFrame) -> Fraction:
    """When a decoded frame that has a time stamp is due, exact, on the container's clock."""
    assert frame.pts is not None
    return frame.pts * frame_clock_s(frame)


def frame_clock_s(frame: av.VideoFrame | av.AudioFrame) -> Fraction:
    """The unit of a frame's time stamp."""
    assert frame.time_base is not None  # decoders always set it
    return frame.time_base


def container_duration_s(container: av.container.InputContainer) -> float | None:
    """What the header says about the length, if it says anything."""
    return None if container.duration is None else container.duration / av.time_base
