"""Decodes the picture track of a part: in order, on a clock, without combs, damage counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.filter

from m2dao.errors import MediaError
from m2dao.media.container import MediaLimits, container_duration_s, frame_clock_s, shown_at_s
from m2dao.media.packets import packets_of
from m2dao.media.survey.stamps import RESTART_S, Clock, Stamps
from m2dao.timeline import FRAME_RATE


@dataclass
class Passed:
    """What was left out of a picture track."""

    num_good: int = 0
    num_damaged: int = 0
    num_repeated: int = 0  # stamps that are not later than the one before
    num_interlaced: int = 0  # made of two fields, and deinterlaced


@dataclass(frozen=True)
class Picture:
    """A stored picture and when it is shown, exact, on the clock."""

    frame: av.VideoFrame
    time_s: Fraction
    shown_s: Fraction | None  # for how long, where the file says it


def decode_pictures(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    clock: Clock,
    passed: Passed,
    stamps: Stamps | None = None,
) -> Iterator[Picture]:
    """Decoded pictures in rising order of time; what is not handed out is counted in `passed`.

    Args:
        container, stream: open for reading.
        clock: of the part.
        passed: takes the counts.
        stamps: of the track, which bring pictures of AVI into order.
    """
    span, last, last_raw = 0, None, float("-inf")
    decoded = _decode(container, stream)
    if container.format.name == "avi" and stamps is not None:
        decoded = _in_order(decoded, stamps.times_s)
    for frame in _Deinterlacer().frames(decoded, passed):
        if frame is None or frame.is_corrupt or frame.pts is None:
            passed.num_damaged += 1
            continue
        exact = shown_at_s(frame)
        raw = float(exact)
        span += raw < last_raw - RESTART_S
        last_raw = raw
        shift_s = clock.at_s(raw, span) - raw
        time_s = exact + (Fraction(shift_s).limit_denominator(1_000_000) if abs(shift_s) > 1e-9 else 0)
        if last is not None and time_s <= last:  # a repeated or reordered stamp carries no new instant
            passed.num_repeated += 1
            continue
        last = time_s
        passed.num_good += 1
        yield Picture(frame, time_s, frame.duration * frame_clock_s(frame) if frame.duration else None)


def check_whole(path: Path, passed: Passed, limits: MediaLimits) -> None:
    """Raise MediaError unless pictures came, nearly all undamaged."""
    if not passed.num_good:
        raise MediaError(str(path), "a video that decodes", "no picture at all", "export it again")
    if passed.num_damaged > limits.max_damaged_fraction * (passed.num_good + passed.num_damaged):
        raise MediaError(
            str(path),
            "an undamaged video",
            f"{passed.num_damaged} damaged of {passed.num_good + passed.num_damaged} pictures",
            "copy or export it again",
        )


def check_complete(path: Path, stream: av.VideoStream, declared_s: float | None, decoded_s: float) -> None:
    """Raise MediaError where a header promises clearly more than was decoded."""
    decoded_s += float(1 / (stream.average_rate or FRAME_RATE))
    if declared_s is not None and decoded_s < 0.98 * declared_s - 0.5:
        raise MediaError(
            str(path),
            f"the {declared_s:.2f} s its header declares",
            f"pictures for {decoded_s:.2f} s",
            "the file is truncated or damaged; copy or export it again",
        )


def declared_duration_s(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """The shorter of what container and stream declare: an edit list may show less than the stream holds."""
    declared, unit = [container_duration_s(container)], float(stream.time_base or 0)
    if declared[0] is not None and stream.start_time is not None:
        offset_s = stream.start_time * unit - (container.start_time or 0) / av.time_base
        declared[0] -= max(0.0, offset_s)
    if stream.duration is not None:
        declared.append(stream.duration * unit)
    known = [value for value in declared if value is not None and value > 0]
    return min(known, default=None)


def _decode(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame | None]:
    """Frames of a track; None for each packet that does not decode."""
    for packet in packets_of(container, stream):
        try:
            yield from packet.decode()
        except (av.error.InvalidDataError, av.error.BufferTooSmallError, av.error.PatchWelcomeError):
            yield None


def _in_order(decoded: Iterator[av.VideoFrame | None], times_s: Sequence[float]) -> Iterator[av.VideoFrame | None]:
    """Frames with rising stamps: AVI stamps pictures as they are stored, not as they are shown."""
    times = iter(sorted(times_s))
    for frame in decoded:
        time_s = next(times, None)
        if frame is not None and time_s is not None:
            frame.pts = round(time_s / frame_clock_s(frame))
        yield frame


class _Deinterlacer:
    """Passes pictures on; from the first of two fields on, every picture goes through the filter."""

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._size: tuple = ()

    def frames(self, decoded: Iterator[av.VideoFrame | None], passed: Passed) -> Iterator[av.VideoFrame | None]:
        for frame in decoded:
            passed.num_interlaced += frame is not None and frame.interlaced_frame
            if frame is None or (self._graph is None and not frame.interlaced_frame):
                yield frame
                continue
            size = (frame.width, frame.height, frame.format.name)
            if size != self._size:
                yield from self._rest()
                self._graph, self._size = self._build(frame), size
            assert self._graph is not None
            self._graph.push(frame)
            yield from self._ready()
        yield from self._rest()

    def _build(self, frame: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        unit = frame_clock_s(frame)
        shape = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
        source = graph.add("buffer", f"{shape}:time_base={unit.numerator}/{unit.denominator}:pixel_aspect=1/1")
        # one picture of each two fields; pictures that are whole pass unchanged
        smooth = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        graph.link_nodes(source, smooth, graph.add("buffersink")).configure()
        return graph

    def _ready(self) -> Iterator[av.VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(frame, av.VideoFrame)
            yield frame

    def _rest(self) -> Iterator[av.VideoFrame]:
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()
            self._graph = None
