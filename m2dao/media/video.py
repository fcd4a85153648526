"""Video decoding by time stamps: any frame rate in, 25 frames per second out.

The clock of a recording starts at the instant its first video frame is shown. `read_frames` and `audio.read_audio`
both use it, so a lag between picture and sound that is stored in the file (different start times of the streams) is
kept exactly as a player would reproduce it.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from m2dao.errors import MediaError
from m2dao.media.container import (
    DEFAULT_LIMITS,
    MediaLimits,
    container_duration_s,
    frame_clock_s,
    open_media,
    shown_at_s,
)
from m2dao.timeline import FRAME_RATE

COLORSPACE_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
COLORSPACE_BT709 = 1  # AVCOL_SPC_BT709
HD_HEIGHT = 720  # from here on an untagged picture is taken as BT.709, as players do


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file says about its pictures, before any is decoded.

    Attributes:
        width, height: of the picture as shown: after rotation and with square pixels.
        rotation_deg: clockwise turn that brings the stored picture upright: 0, 90, 180 or 270.
        frame_rate: nominal average, exact; the time stamps decide.
        start_time_s: when the first frame is shown, on the container's clock.
        duration_s: length the header declares; None where it declares none.
    """

    path: Path
    codec: str
    width: int
    height: int
    rotation_deg: int
    frame_rate: Fraction
    start_time_s: float
    duration_s: float | None
    has_audio: bool


@dataclass(frozen=True)
class Frame:
    """One frame of the normalised recording."""

    index: int
    time_s: float  # index / frame_rate
    source_time_s: float  # of the stored frame that was chosen, on the same clock
    rgb: np.ndarray  # uint8 [H, W, 3]


def probe_video(path: Path | str, limits: MediaLimits = DEFAULT_LIMITS) -> VideoInfo:
    """Read the header and the first frame of `path`.

    Raises:
        MediaError: not a readable video, or outside `limits`.
    """
    path = Path(path)
    with open_media(path) as container:
        stream = _video_stream(container, path)
        _check_header(container, stream, path, limits)
        first = _first_frame(container, stream, path)
        geometry = _Geometry.of(stream, first)
        width, height = geometry.shown
        return VideoInfo(
            path=path,
            codec=stream.codec_context.name,
            width=width,
            height=height,
            rotation_deg=geometry.clockwise_deg,
            frame_rate=Fraction(stream.average_rate or stream.guessed_rate or FRAME_RATE),
            start_time_s=float(shown_at_s(first)),
            duration_s=_declared_duration_s(container, stream),
            has_audio=bool(container.streams.audio),
        )


def read_frames(
    path: Path | str,
    *,
    frame_rate: Fraction | int = FRAME_RATE,
    max_side: int | None = None,
    limits: MediaLimits = DEFAULT_LIMITS,
) -> Generator[Frame, None, None]:
    """Yield the recording at exactly `frame_rate`, upright, in memory that does not grow with its length.

    Frame ``i`` is the stored frame nearest to the instant ``i / frame_rate``, so a steady rate conversion is never
    off by more than half a stored frame and has no bias.

    Args:
        max_side: shrink frames (area averaging) so that no side is longer than this.

    Raises:
        MediaError: not a readable video, damaged, shorter than its header says, or outside `limits`.
    """
    path, frame_rate = Path(path), Fraction(frame_rate)
    with open_media(path) as container:
        stream = _video_stream(container, path)
        _check_header(container, stream, path, limits)
        stream.thread_type = "AUTO"
        stored = _stored_frames(container, stream, path, limits)
        geometry = None
        for index, (frame, start) in enumerate(_resample(stored, frame_rate)):
            geometry = geometry or _Geometry.of(stream, frame)
            source_time_s = float(shown_at_s(frame) - start)
            yield Frame(index, float(index / frame_rate), source_time_s, geometry.upright_rgb(frame, max_side))


def _resample(stored: Iterator[av.VideoFrame], frame_rate: Fraction) -> Iterator[tuple[av.VideoFrame, Fraction]]:
    """Pair every output instant with the stored frame nearest to it; the earlier one wins a tie."""
    current = next(stored)
    start = shown_at_s(current)
    step = 1 / frame_rate
    last_gap = step
    num_out = 0
    for following in stored:
        time, next_time = shown_at_s(current) - start, shown_at_s(following) - start
        while num_out * step <= (time + next_time) / 2:
            yield current, start
            num_out += 1
        last_gap = next_time - time
        current = following
    # the last frame is shown for as long as its own duration says, else for as long as the one before it
    shown_s = current.duration * frame_clock_s(current) if current.duration else last_gap
    end = shown_at_s(current) - start + min(shown_s, 2 * max(last_gap, step))
    # an instant that falls into the last frame's time belongs to it, a hair's rounding of the time stamps allowed for
    while num_out * step < end - step / 100:
        yield current, start
        num_out += 1


def _stored_frames(container, stream, path: Path, limits: MediaLimits) -> Iterator[av.VideoFrame]:
    """Decoded frames in rising order of time stamps, with damage and truncation turned into errors."""
    num_good = num_damaged = 0
    size: tuple[int, int] | None = None
    start = last = 0  # stamps of the first frame and of the latest one
    declared_s = _declared_duration_s(container, stream)
    max_frames = int(limits.max_duration_s * limits.max_frame_rate)
    for frame in _decode(container, stream):
        if frame is None or frame.is_corrupt or frame.pts is None:
            num_damaged += 1
            continue
        if size is None:
            size, start = (frame.width, frame.height), frame.pts
        if (frame.width, frame.height) != size:
            raise MediaError(
                str(path),
                f"one picture size ({size[0]}x{size[1]})",
                f"{frame.width}x{frame.height} from {float((frame.pts - start) * frame_clock_s(frame)):.2f} s on",
                "export it at one size",
            )
        if num_good and frame.pts <= last:  # a repeated or reordered stamp carries no new instant
            continue
        last = frame.pts
        num_good += 1
        if (last - start) * frame_clock_s(frame) > limits.max_duration_s or num_good > max_frames:
            raise _too_long(path, limits)
        yield frame
    if not num_good:
        raise MediaError(str(path), "a video that decodes", "no picture at all", "export it again")
    if num_damaged > limits.max_damaged_fraction * (num_good + num_damaged):
        raise MediaError(
            str(path),
            "an undamaged video",
            f"{num_damaged} damaged of {num_good + num_damaged} pictures",
            "copy or export it again",
        )
    decoded_s = float((last - start) * stream.time_base + 1 / (stream.average_rate or FRAME_RATE))
    if declared_s is not None and decoded_s < 0.98 * declared_s - 0.5:
        raise MediaError(
            str(path),
            f"the {declared_s:.2f} s its header declares",
            f"pictures for {decoded_s:.2f} s",
            "the file is truncated or damaged; copy or export it again",
        )


def _decode(container, stream) -> Iterator[av.VideoFrame | None]:
    """Frames of `stream`; None for each packet that does not decode."""
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except (av.error.InvalidDataError, av.error.BufferTooSmallError):
            yield None


def _first_frame(container, stream, path: Path) -> av.VideoFrame:
    for frame in itertools.islice(_decode(container, stream), 100):
        if frame is not None and frame.pts is not None:
            return frame
    raise MediaError(str(path), "a video that decodes", "no picture at all", "export it again")


def _video_stream(container, path: Path):
    streams = [stream for stream in container.streams.video if not stream.disposition & stream.disposition.attached_pic]
    if not streams:
        raise MediaError(
            str(path),
            "a video",
            "a file without a video stream",
            "give a recording with picture and sound; a truncated file can look like this too",
        )
    best = container.streams.best("video")
    return best if best in streams else streams[0]


def _check_header(container, stream, path: Path, limits: MediaLimits) -> None:
    context = stream.codec_context
    if context is None or not context.width or not context.height:
        raise MediaError(
            str(path), "a video that can be decoded", "an unknown codec or no picture size", "export it as mp4 (H.264)"
        )
    if context.width * context.height > limits.max_pixels or max(context.width, context.height) > limits.max_side:
        raise MediaError(
            str(path),
            f"at most {limits.max_pixels} pixels and {limits.max_side} on a side",
            f"{context.width}x{context.height}",
            "export it smaller",
        )
    duration_s = container_duration_s(container)
    if duration_s is not None and duration_s > limits.max_duration_s:
        raise _too_long(path, limits, duration_s)
    if stream.average_rate and stream.average_rate > limits.max_frame_rate:
        raise MediaError(
            str(path),
            f"at most {limits.max_frame_rate:g} frames per second",
            f"{float(stream.average_rate):.1f}",
            "export it at 25 to 60 frames per second",
        )


def _too_long(path: Path, limits: MediaLimits, duration_s: float | None = None) -> MediaError:
    got = "more" if duration_s is None else f"{duration_s:.0f} s"
    return MediaError(str(path), f"at most {limits.max_duration_s:.0f} s", got, "cut it to the part you need")


def _declared_duration_s(container, stream) -> float | None:
    """The shorter of what container and stream declare: an edit list may show less than the stream holds."""
    declared = [container_duration_s(container)]
    if declared[0] is not None and stream.start_time is not None:
        offset_s = float(stream.start_time * stream.time_base) - (container.start_time or 0) / av.time_base
        declared[0] -= max(0.0, offset_s)
    if stream.duration is not None:
        declared.append(float(stream.duration * stream.time_base))
    known = [value for value in declared if value is not None and value > 0]
    return min(known, default=None)


@dataclass(frozen=True)
class _Geometry:
    """How stored pictures become shown ones; one for a whole video."""

    stored: tuple[int, int]  # width, height
    square: tuple[int, int]  # the same with square pixels, before rotation
    clockwise_deg: int

    @classmethod
    def of(cls, stream, frame: av.VideoFrame) -> _Geometry:
        aspect = stream.sample_aspect_ratio
        aspect = Fraction(aspect) if aspect and Fraction(1, 4) < aspect < 4 else Fraction(1)
        width, height = frame.width, frame.height
        square = (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))
        # the display matrix as a clockwise quarter turn; PyAV gives the counter-clockwise angle
        return cls((width, height), square, int(round(-frame.rotation / 90.0) * 90) % 360)

    @property
    def shown(self) -> tuple[int, int]:
        return self.square[::-1] if self.clockwise_deg in (90, 270) else self.square

    def upright_rgb(self, frame: av.VideoFrame, max_side: int | None) -> np.ndarray:
        """uint8 [H, W, 3] with square pixels, rotated for display, at most `max_side` long."""
        width, height = self.square
        if max_side is not None and max(width, height) > max_side:
            scale = max_side / max(width, height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
        # untagged high-definition video is BT.709; the converter itself would take it as BT.601
        untagged = frame.colorspace == COLORSPACE_UNSPECIFIED and frame.height >= HD_HEIGHT
        converted = frame.reformat(
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=COLORSPACE_BT709 if untagged else None,
            interpolation="AREA" if (width, height) != self.stored else None,
        )
        rgb = converted.to_ndarray()
        num_turns = self.clockwise_deg // 90
        return np.ascontiguousarray(np.rot90(rgb, k=-num_turns)) if num_turns else rgb
