"""The packets of a file's tracks."""

from __future__ import annotations

from collections.abc import Iterator

import av


def packets_of(container: av.container.InputContainer, *streams: av.stream.Stream) -> Iterator[av.Packet]:
    """Yield the packets of some tracks as they are stored, and at the end an empty one of each, for its decoder.

    Tracks may appear amid a file (FLV, transport streams). PyAV does not know them, and stumbles over their empty
    packets. Those of the tracks that were asked for came before.
    """
    try:
        yield from container.demux(*streams)
    except IndexError:
        return
