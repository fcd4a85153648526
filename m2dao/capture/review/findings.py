"""What the quality report says: kinds for programs, sentences for whoever filmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from m2dao.timeline import FRAME_RATE

NUM_CLOCKS = 5  # places told of one finding


class Finding(NamedTuple):
    """Something that costs quality."""

    kind: str  # a word or two that stay the same, such as ``"jump cut"``
    text: str


def told_by_reader(note: str) -> Finding:
    """What a reader of media said of its picture or sound: chosen, converted, mended, left out."""
    about = note.partition(":")[0]
    return Finding(about if about in ("picture", "sound") else "recording", note)


def clock(frame: int) -> str:
    """A frame's time as minutes and seconds."""
    seconds = frame / FRAME_RATE
    return f"{int(seconds // 60)}:{seconds % 60:05.2f}"


def clocks(frames: Sequence[int]) -> str:
    """The times of some frames, the first few of many."""
    shown = ", ".join(clock(frame) for frame in frames[:NUM_CLOCKS])
    return f"{shown}, ..." if len(frames) > NUM_CLOCKS else shown
