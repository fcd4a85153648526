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
from m2dao.media.survey.kinds import kind_of, lacks_index

MEDIA = "a complete video or sound file (mp4, mov, mkv, webm, avi, wav, flac, mp3, ...)"

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
    "ac3",
    "eac3",
    "dts",
    "amr",
    "amrnb",
    "amrwb",
    "caf",
    "au",
    "voc",
    "wv",
    "tta",
    "ape",
    "mpc",
    "mpc8",
    "dv",
    "ivf",
    "mxf",
    "nut",
)
# What speech is taken from where no picture is wanted: all of these but those of studios.
SOUND_FORMATS = tuple(name for name in READABLE_FORMATS if name not in ("mxf", "nut", "dv", "ivf"))
# Decoders of sound. With such a list ffmpeg opens no other, not even to find out what a stream is.
SOUND_CODECS = (
    *("aac", "aac_latm", "alac", "flac", "mp2", "mp2float", "mp3", "mp3float", "opus", "libopus", "vorbis", "speex"),
    *("amrnb", "amrwb", "wmav1", "wmav2", "wmapro", "wmalossless", "ac3", "eac3", "dca", "wavpack", "tta", "ape"),
    *("mpc7", "mpc8", "adpcm_ima_wav", "adpcm_ms", "adpcm_ima_qt", "gsm", "gsm_ms", "pcm_alaw", "pcm_mulaw"),
    *("g722", "g726", "g726le", "g723_1", "g729", "ilbc", "pcm_s16le_planar", "pcm_dvd", "pcm_bluray"),
    *("pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be"),
)
# In samples of a WAV file ffmpeg looks for DTS and AC-3, by default through 2500 packets. Their frames are 2 kB long.
_WAVE_PROBES = "16"
# Sound without any header: only ever opened where our own code knows what it is.
RAW_FORMATS = ("u8", "s16be", "s24be", "s32be", "f32be", "f64be", "mulaw", "alaw")


@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """What a file may ask of the machine before it is refused."""

    max_duration_s: float = 3 * 3600.0
    max_pixels: int = 8192 * 4352  # one 8K frame
    max_side: int = 8192
    max_frame_rate: float = 250.0
    min_sample_rate: int = 4000  # below this no consonant survives
    max_sample_rate: int = 384_000
    max_channels: int = 256
    max_damaged_fraction: float = 0.02

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"MediaLimits.{name}: expected a positive number, got {value}")


DEFAULT_LIMITS = MediaLimits()


@dataclass(frozen=True)
class RawSound:
    """Samples without a header: what a demuxer must be told of them."""

    format: str  # one of RAW_FORMATS
    sample_rate: int
    num_channels: int

    def __post_init__(self) -> None:
        if self.format not in RAW_FORMATS:
            raise ValueError(f"RawSound.format: expected one of {RAW_FORMATS}, got {self.format!r}")


@dataclass(frozen=True)
class Part:
    """A range of bytes of a file that is a whole recording by itself; most files are one part.

    Attributes:
        start, end: the first byte, and the one after the last.
        raw: set where the samples need a description of ours, because a demuxer would read them wrongly.
    """

    start: int
    end: int
    raw: RawSound | None = None


def check_readable(path: Path) -> int:
    """The size of a file that may be a media file: there, not empty, and of no other known kind.

    Raises:
        MediaError: it cannot be one.
    """
    if not path.is_file():
        raise MediaError(
            str(path), "a media file", "a folder" if path.is_dir() else "nothing of this name", "check the path"
        )
    num_bytes = path.stat().st_size
    if num_bytes == 0:
        raise MediaError(str(path), "a media file", "an empty file (0 bytes)", "copy or export it again")
    found = kind_of(path)
    if found is not None:
        raise MediaError(str(path), MEDIA, found.name, found.remedy)
    return num_bytes


@contextlib.contextmanager
def open_media(
    path: Path | str, part: Part | None = None, *, sound_only: bool = False
) -> Iterator[av.container.InputContainer]:
    """Open a local media file, or a part of it; foreign errors while it is open come out as MediaError.

    Args:
        path: of the file.
        part: of it; all of it if None.
        sound_only: open no decoder of pictures. Every decoder is a way in for a crafted file, and those of pictures
            are the most and the largest.
    """
    path = Path(path)
    num_bytes = check_readable(path)
    name, raw = f"file:{path}", None
    if part is not None and (part.start, part.end, part.raw) != (0, num_bytes, None):
        name, raw = f"subfile,,start,{part.start},end,{part.end},,:{name}", part.raw
    formats = SOUND_FORMATS if sound_only else READABLE_FORMATS
    options = {"protocol_whitelist": "file,subfile", "format_whitelist": ",".join(formats)}
    if sound_only:
        options["codec_whitelist"] = ",".join(SOUND_CODECS)
    if raw is None and _is_wave(path):
        options["max_probe_packets"] = _WAVE_PROBES
    if raw is not None:
        options["format_whitelist"] = raw.format
        options |= {"sample_rate": str(raw.sample_rate), "ch_layout": f"{raw.num_channels}c"}
    try:
        with av.open(
            name, format=raw.format if raw else None, container_options=options, metadata_errors="replace"
        ) as container:
            yield container
    except av.error.FFmpegError as error:
        raise not_media(path, error) from error


def _is_wave(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:] == b"WAVE"


def not_media(path: Path, error: av.error.FFmpegError) -> MediaError:
    """The refusal of a file that no demuxer reads, with the reason where that can be told."""
    if lacks_index(path):
        return MediaError(
            str(path),
            MEDIA,
            "an mp4 without its index (moov): the recorder was stopped before it could write it",
            "repair it with the camera or a repair program, or record again",
        )
    return MediaError(
        str(path),
        MEDIA,
        f"data that cannot be decoded ({error.strerror})",
        "the file is truncated, damaged or of another kind; export it again",
    )


def picture_stream(container: av.container.InputContainer, index: int) -> av.VideoStream:
    """The picture track of a number."""
    stream = container.streams[index]
    assert isinstance(stream, av.VideoStream)
    return stream


def sound_stream(container: av.container.InputContainer, index: int) -> av.AudioStream:
    """The sound track of a number."""
    stream = container.streams[index]
    assert isinstance(stream, av.AudioStream)
    return stream


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
