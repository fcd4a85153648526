"""The clock that picture and sound of a recording share: it begins when the first picture is shown."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import av.error

from m2dao.media.container import open_media, picture_stream, shown_at_s
from m2dao.media.packets import packets_of
from m2dao.media.survey.stamps import Clock
from m2dao.media.survey.tracks import Source, Track


@dataclass(frozen=True)
class RecordingClock:
    """Of one part.

    Attributes:
        clock: of all its tracks.
        start_s: when the first picture is shown, on `clock`.
        length_s: from there to the end of all tracks; the next part begins then.
    """

    clock: Clock
    start_s: float
    length_s: float


def choose_picture(choices: list[Track]) -> Track:
    """The picture track that is used: the largest, the earlier of equals."""
    return max(choices, key=lambda track: (track.width * track.height, -track.index))


def recording_clock(path: Path, source: Source, video_track: int | None = None) -> RecordingClock:
    """The clock of a part that has pictures."""
    usable = source.usable("video")
    chosen = next((track for track in usable if track.index == video_track), None) or choose_picture(usable)
    start_s = _first_shown_s(path, source, chosen.index)
    clock = source.clock(*(track.index for track in source.tracks))
    start_s = clock.at_s(start_s) if start_s is not None else clock.spans[0].start_s
    return RecordingClock(clock, start_s, max(0.0, clock.end_s - start_s))


@functools.lru_cache(maxsize=64)
def _first_shown_s(path: Path, source: Source, index: int) -> float | None:
    """The stamp of the first picture that decodes."""
    with open_media(path, source.part) as container:
        for packet in packets_of(container, picture_stream(container, index)):
            try:
                for frame in packet.decode():
                    if frame.pts is not None and not frame.is_corrupt:
                        return float(shown_at_s(frame))
            except (av.error.InvalidDataError, av.error.BufferTooSmallError):
                continue
    return None
