"""What time stamps say without decoding: lengths, real frame rates, restarts, impossible jumps.

All tracks that are used share one clock. Where stamps begin again in the middle, the clock goes on instead. Where all
tracks jump ahead over a hole that no recorder makes on purpose, the hole is shortened.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import av
import av.error

from m2dao.media.packets import packets_of
from m2dao.media.survey.sizes import AnnouncedSizes

RESTART_S = 1.0  # stamps that fall back by more than this begin again; less is reordering
MAX_HOLE_S = 10.0  # of all tracks at once; more is a machine that slept, or a clock that was set
CAPPED_HOLE_S = 1.0  # what is left of such a hole
MAX_PACKETS = 30_000_000  # a day of sound and pictures
MAX_RESTARTS = 1000


@dataclass
class Stamps:
    """Of one track, in the order of the file: when each packet is due, in seconds."""

    times_s: array = field(default_factory=lambda: array("d"))
    lengths_s: array = field(default_factory=lambda: array("d"))
    orders_s: array = field(default_factory=lambda: array("d"))  # decoding time stamps: rising but at a restart
    positions: array = field(default_factory=lambda: array("q"))  # bytes from the start of the part, -1 unknown
    num_bytes: int = 0
    sizes: set = field(default_factory=set)  # picture sizes that packets announce

    @property
    def num_packets(self) -> int:
        return len(self.times_s)


@dataclass(frozen=True)
class Span:
    """Time between two restarts of the stamps."""

    start_s: float
    end_s: float
    shift_s: float  # to be added to stamps, which puts the span behind the one before


@dataclass(frozen=True)
class Jump:
    """A hole that was shortened: by how much, and the stamp where the tracks go on."""

    span: int
    at_s: float
    cut_s: float


@dataclass(frozen=True)
class Clock:
    """Maps stamps of a part to one rising clock, which begins with its first packet."""

    spans: tuple[Span, ...]
    jumps: tuple[Jump, ...] = ()

    def at_s(self, stamp_s: float, span: int = 0) -> float:
        """The instant that a stamp of a span means."""
        span = min(span, len(self.spans) - 1)
        cut_s = sum(jump.cut_s for jump in self.jumps if jump.span == span and stamp_s >= jump.at_s - 1e-6)
        return stamp_s + self.spans[span].shift_s - cut_s

    @property
    def length_s(self) -> float:
        """From what is first shown or heard to the end; what decoders take to warm up lies before 0."""
        start_s = self.spans[0].start_s
        return max(0.0, self.end_s - (max(start_s, 0.0) if start_s > -1.0 else start_s))

    @property
    def end_s(self) -> float:
        return self.at_s(self.spans[-1].end_s, len(self.spans) - 1)


def scan(container: av.container.InputContainer, indices: Iterable[int]) -> dict[int, Stamps]:
    """Read the stamps of some tracks by walking through all packets once."""
    found = {index: Stamps() for index in indices}
    if not found:
        return found
    streams = [container.streams[index] for index in found]
    announced, num_packets = AnnouncedSizes(), 0
    try:
        for packet in packets_of(container, *streams):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None or packet.time_base is None or not packet.size:
                continue
            num_packets += 1
            if num_packets > MAX_PACKETS:
                break
            track, unit = found[packet.stream_index], float(packet.time_base)
            order = packet.dts if packet.dts is not None else stamp
            if packet.is_discard:
                continue
            track.times_s.append(stamp * unit)
            track.lengths_s.append((packet.duration or 0) * unit)
            track.orders_s.append(order * unit)
            track.positions.append(packet.pos if packet.pos is not None else -1)
            track.num_bytes += packet.size
            if packet.is_keyframe and packet.stream.type == "video" and (size := announced(packet)):
                track.sizes.add(size)
    except (av.error.InvalidDataError, av.error.EOFError):
        pass  # damage: the readers find out whether enough is left
    return found


def find_restarts(stamps: Stamps) -> list[int]:
    """Numbers of the packets with which a track's stamps begin again."""
    restarts, last = [], float("-inf")
    for number, order in enumerate(stamps.orders_s):
        if order < last - RESTART_S:
            restarts.append(number)
        last = order
    return restarts


def make_clock(tracks: Iterable[Stamps]) -> Clock:
    """One clock for all tracks that are used."""
    spans: list[Span] = []
    jumps: list[Jump] = []
    cuts = [_cut(track) for track in tracks if track.num_packets]
    for number in range(max((len(pieces) for pieces in cuts), default=0)):
        shown = [pieces[number] for pieces in cuts if number < len(pieces)]
        begin = min(min(times) for times, _ in shown)
        end = max(max(map(sum, zip(times, lengths, strict=True))) for times, lengths in shown)
        found = list(_holes(shown, number))
        jumps += found
        before = spans[-1] if spans else None
        shift = 0.0
        if before is not None:
            lost = sum(jump.cut_s for jump in jumps if jump.span == number - 1)
            shift = before.end_s + before.shift_s - lost - begin
        spans.append(Span(begin, end, shift))
    return Clock(tuple(spans) or (Span(0.0, 0.0, 0.0),), tuple(jumps))


def _cut(track: Stamps) -> list[tuple[array, array]]:
    """Stamps and lengths of each span of a track."""
    bounds = [0, *find_restarts(track)[:MAX_RESTARTS], track.num_packets]
    return [(track.times_s[a:b], track.lengths_s[a:b]) for a, b in zip(bounds, bounds[1:], strict=False) if b > a]


def _holes(shown: list[tuple[array, array]], span: int) -> Iterable[Jump]:
    """Where no track has anything for longer than anybody is silent and still on purpose."""
    merged = sorted(
        (time, time + length) for times, lengths in shown for time, length in zip(times, lengths, strict=True)
    )
    reached = merged[0][1]
    for begin, end in merged:
        if begin - reached > MAX_HOLE_S:
            yield Jump(span, begin, begin - reached - CAPPED_HOLE_S)
        reached = max(reached, end)


def real_frame_rate(track: Stamps) -> float | None:
    """Frames per second by the stamps: the middle rate where they are irregular; None for a single frame."""
    times = sorted(set(track.times_s))
    if len(times) < 2:
        return None
    steps = sorted(b - a for a, b in zip(times, times[1:], strict=False))
    whole = sum(step for step in steps if step < RESTART_S)
    count = bisect.bisect_left(steps, RESTART_S)
    return count / whole if count and whole else (len(times) - 1) / (times[-1] - times[0])
