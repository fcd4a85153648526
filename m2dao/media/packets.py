"""The packets of a file's tracks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar, cast

import av
from av.stream import Stream

StreamT = TypeVar("StreamT", bound=Stream)


def packets_of(container: av.container.InputContainer, *streams: StreamT) -> Iterator[av.Packet[StreamT]]:
    """Yield the packets of some tracks as they are stored, and at the end an empty one of each.

    The empty ones ask decoders for what they hold. Tracks may appear amid a file (FLV, transport streams). PyAV does
    not know them, and stumbles over their empty packets. Those of the tracks that were asked for came before.
    """
    try:
        yield from cast("Iterator[av.Packet[StreamT]]", container.demux(*streams))
    except IndexError:
        return
