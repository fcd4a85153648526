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
    open_media,
    picture_stream,
    shown_at_s,
)
from m2dao.media.picture.colour import ToneMapper, transfer_of
from m2dao.media.picture.geometry import Geometry, plain_rgb
from m2dao.media.picture.pictures import (
    Passed,
    Picture,
    check_complete,
    check_whole,
    declared_duration_s,
    decode_pictures,
)
from m2dao.media.survey.kinds import dolby_vision_profile
from m2dao.media.survey.stamps import Clock, Span, real_frame_rate
from m2dao.media.survey.timing import choose_picture, recording_clock
from m2dao.media.survey.tracks import Survey, Track, survey
from m2dao.timeline import FRAME_RATE

NUM_PROBED_FRAMES = 8  # that tell whether a video is interlaced


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What is known of a file's pictures before they are decoded at length.

    Attributes:
        index: number of the track that is used.
        width, height: of the picture as shown: after rotation and with square pixels.
        rotation_deg: clockwise turn that brings the stored picture upright: 0, 90, 180 or 270.
        mirrored: whether the stored picture is mirrored left to right before that turn.
        frame_rate: nominal average, exact; the time stamps decide.
        fps: frames per second by the time stamps.
        num_frames: stored, in all parts.
        start_time_s: when the first frame is shown, on the container's clock.
        duration_s: length the header declares; None where it declares none.
        transfer: "bt709", "hlg" or "pq"; the last two are converted to the first.
        interlaced: whether pictures are made of two fields each; they are deinterlaced.
        notes: what was chosen and what is unusual, in words.
    """

    path: Path
    index: int
    codec: str
    width: int
    height: int
    rotation_deg: int
    mirrored: bool
    frame_rate: Fraction
    fps: float
    num_frames: int
    start_time_s: float
    duration_s: float | None
    has_audio: bool
    transfer: str
    interlaced: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Frame:
    """One frame of the normalised recording."""

    index: int
    time_s: float  # index / frame_rate
    source_time_s: float  # of the stored frame that was chosen, on the same clock
    rgb: np.ndarray  # uint8 [H, W, 3]


def probe_video(path: Path | str, limits: MediaLimits = DEFAULT_LIMITS, *, track: int | None = None) -> VideoInfo:
    """Choose a picture track of `path` and tell what it is.

    Args:
        limits: of what is read.
        track: number of the track to use; the largest if None.

    Raises:
        MediaError: not a readable video, or outside `limits`.
    """
    path = Path(path)
    found = survey(path)
    chosen = _choose(found, limits, track)
    with open_media(path, found.sources[0].part) as container:
        stream = picture_stream(container, chosen.index)
        frames, interlaced = _first_frames(container, stream, path)
        geometry = Geometry.of(stream, frames[0], found.sources[0].stamps[chosen.index].sizes)
        stamps = [source.stamps[chosen.index] for source in found.sources if chosen.index in source.stamps]
        fps = real_frame_rate(stamps[0]) or float(FRAME_RATE)
        nominal = Fraction(stream.average_rate or stream.guessed_rate or FRAME_RATE)
        transfer = _transfer(frames[0])
        width, height = geometry.shown
        return VideoInfo(
            path=path,
            index=chosen.index,
            codec=stream.codec_context.name,
            width=width,
            height=height,
            rotation_deg=geometry.clockwise_deg,
            mirrored=geometry.mirrored,
            frame_rate=nominal if nominal <= limits.max_frame_rate else Fraction(fps).limit_denominator(1001),
            fps=fps,
            num_frames=sum(track.num_packets for track in stamps),
            start_time_s=float(shown_at_s(frames[0])),
            duration_s=declared_duration_s(container, stream) if len(found.sources) == 1 else None,
            has_audio=any(source.usable("audio") for source in found.sources),
            transfer=transfer,
            interlaced=interlaced,
            notes=tuple(_notes(found, chosen, transfer, interlaced, geometry, frames[0])),
        )


def read_frames(
    path: Path | str,
    *,
    frame_rate: Fraction | int = FRAME_RATE,
    max_side: int | None = None,
    limits: MediaLimits = DEFAULT_LIMITS,
    track: int | None = None,
    notes: list[str] | None = None,
) -> Generator[Frame, None, None]:
    """Yield the recording at exactly `frame_rate`, upright, in memory that does not grow with its length.

    Frame ``i`` is the stored frame nearest to the instant ``i / frame_rate``, so a steady rate conversion is never
    off by more than half a stored frame and has no bias.

    Args:
        max_side: shrink frames (area averaging) so that no side is longer than this.
        track: number of the track to use; the largest if None.
        notes: takes what was left out, in words; complete when all is read.

    Raises:
        MediaError: not a readable video, damaged, shorter than its header says, or outside `limits`.
    """
    path, frame_rate = Path(path), Fraction(frame_rate)
    found = survey(path)
    chosen = _choose(found, limits, track)
    converter = _Converter(found, chosen, max_side)
    passed = Passed()
    stored = _stored(found, chosen, limits, converter, passed)
    for index, (picture, start) in enumerate(_resample(stored, frame_rate)):
        yield Frame(index, float(index / frame_rate), float(picture.time_s - start), converter.rgb(picture.frame))
    if notes is not None:
        if passed.num_damaged:
            notes.append(f"{passed.num_damaged} pictures are damaged and left out")
        if passed.num_repeated:
            notes.append(f"{passed.num_repeated} pictures are stamped no later than the one before and left out")


class _Converter:
    """Stored pictures to upright ones of one size and BT.709."""

    def __init__(self, found: Survey, chosen: Track, max_side: int | None):
        self._sizes = {
            size
            for source in found.sources
            if chosen.index in source.stamps
            for size in source.stamps[chosen.index].sizes
        }
        self._max_side = max_side
        self._geometry: Geometry | None = None
        self._target = (0, 0)
        self._mappers: dict[str, ToneMapper] = {}

    def begin(self, stream: av.VideoStream, frame: av.VideoFrame) -> None:
        """Fix the shape by the first picture."""
        if self._geometry is None:
            self._geometry = Geometry.of(stream, frame, self._sizes)
            self._target = self._geometry.target(self._max_side)

    def rgb(self, frame: av.VideoFrame) -> np.ndarray:
        assert self._geometry is not None
        size, transfer = self._geometry.fitted(frame, self._target), _transfer(frame)
        if transfer == "bt709":
            rgb = plain_rgb(frame, size)
        else:
            rgb = self._mappers.setdefault(transfer, ToneMapper(transfer)).rgb(frame, size)
        return self._geometry.turned(rgb, self._target)


def _resample(stored: Iterator[Picture], frame_rate: Fraction) -> Iterator[tuple[Picture, Fraction]]:
    """Pair every output instant with the stored frame nearest to it; the earlier one wins a tie."""
    current = next(stored)
    start = current.time_s
    step = 1 / frame_rate
    last_gap = step
    num_out = 0
    for following in stored:
        time, next_time = current.time_s - start, following.time_s - start
        while num_out * step <= (time + next_time) / 2:
            yield current, start
            num_out += 1
        last_gap = next_time - time
        current = following
    # the last frame is shown for as long as its own duration says, else for as long as the one before it
    shown_s = current.shown_s or last_gap
    end = current.time_s - start + min(shown_s, 2 * max(last_gap, step))
    # an instant that falls into the last frame's time belongs to it, a hair's rounding of the time stamps allowed for
    while num_out * step < end - step / 100:
        yield current, start
        num_out += 1


def _stored(
    found: Survey, chosen: Track, limits: MediaLimits, converter: _Converter, passed: Passed
) -> Iterator[Picture]:
    """Pictures of all parts on one clock, with damage and truncation turned into errors."""
    behind_s, is_glued = Fraction(0), len(found.sources) > 1
    max_frames = int(limits.max_duration_s * limits.max_frame_rate)
    for source in found.sources:
        if not source.usable("video"):
            continue
        index = chosen.index if chosen in source.usable("video") else choose_picture(source.usable("video")).index
        with open_media(found.path, source.part) as container:
            stream = picture_stream(container, index)
            stream.thread_type = "AUTO"
            timing = recording_clock(found.path, source, index)
            first = raw_s = None
            for picture in decode_pictures(container, stream, timing.clock, passed, source.stamps[index]):
                converter.begin(stream, picture.frame)
                first = picture.time_s if first is None else first
                raw_s = picture.time_s - first
                if behind_s + raw_s > limits.max_duration_s or passed.num_good > max_frames:
                    raise _too_long(found.path, limits)
                time_s = behind_s + raw_s if is_glued else picture.time_s
                yield Picture(picture.frame, time_s, picture.shown_s)
            if raw_s is not None and not timing.clock.jumps and len(timing.clock.spans) == 1:
                check_complete(found.path, stream, declared_duration_s(container, stream), float(raw_s))
        behind_s += Fraction(timing.length_s).limit_denominator(1_000_000)
    check_whole(found.path, passed, limits)


def _choose(found: Survey, limits: MediaLimits, wanted: int | None) -> Track:
    """The picture track that is used, within the limits."""
    chosen = choose_picture(found.choices("video", wanted))
    path = found.path
    if chosen.width * chosen.height > limits.max_pixels or max(chosen.width, chosen.height) > limits.max_side:
        raise MediaError(
            str(path),
            f"at most {limits.max_pixels} pixels and {limits.max_side} on a side",
            f"{chosen.width}x{chosen.height}",
            "export it smaller",
        )
    with open_media(path, found.sources[0].part) as container:
        duration_s = container_duration_s(container)
    stamped_s = sum(source.clock(chosen.index).end_s for source in found.sources)
    if (len(found.sources) == 1 and duration_s or 0.0) > limits.max_duration_s and stamped_s > limits.max_duration_s:
        raise _too_long(path, limits, duration_s)
    rate = real_frame_rate(found.sources[0].stamps[chosen.index])
    if rate is not None and rate > limits.max_frame_rate:
        raise MediaError(
            str(path),
            f"at most {limits.max_frame_rate:g} frames per second",
            f"{rate:.1f}",
            "export it at 25 to 60 frames per second",
        )
    if dolby_vision_profile(path) == 5:
        raise MediaError(
            str(path),
            "pictures that can be shown without Dolby Vision",
            "Dolby Vision profile 5, whose colours only a licensed player can read",
            "record or export it as SDR, HLG or HDR10",
        )
    return chosen


def _first_frames(container, stream, path: Path) -> tuple[list[av.VideoFrame], bool]:
    """Some decoded pictures, and whether they were interlaced."""
    clock, passed = Clock((Span(0.0, 0.0, 0.0),)), Passed()
    pictures = decode_pictures(container, stream, clock, passed)
    found = [picture.frame for picture in itertools.islice(pictures, NUM_PROBED_FRAMES)]
    if not found:
        raise MediaError(str(path), "a video that decodes", "no picture at all", "export it again")
    return found, passed.num_interlaced > 0


def _transfer(frame: av.VideoFrame) -> str:
    return transfer_of(int(frame.color_trc))


def _notes(
    found: Survey, chosen: Track, transfer: str, interlaced: bool, geometry: Geometry, frame: av.VideoFrame
) -> Iterator[str]:
    others = [track for track in found.tracks if track.kind == "video" and track != chosen]
    if others:
        yield f"picture: {chosen} is used; not used: {'; '.join(map(str, others))}"
    if transfer != "bt709":
        yield f"picture: filmed in HDR ({transfer.upper()}), converted to BT.709"
    if interlaced:
        yield "picture: interlaced, made of two fields each; deinterlaced"
    sizes: set[tuple[int, int]] = set()
    for source in found.sources:
        sizes |= source.stamps[chosen.index].sizes if chosen.index in source.stamps else set()
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        yield f"picture: its size changes ({listed}); all are shown at {geometry.square[0]}x{geometry.square[1]}"
    if geometry.mirrored:
        yield "picture: stored mirrored, shown as the file asks"
    if any(component.is_alpha for component in frame.format.components):
        yield "picture: has transparency, which is ignored; what is stored beneath is shown"


def _too_long(path: Path, limits: MediaLimits, duration_s: float | None = None) -> MediaError:
    got = "more" if duration_s is None else f"{duration_s:.0f} s"
    return MediaError(str(path), f"at most {limits.max_duration_s:.0f} s", got, "cut it to the part you need")
