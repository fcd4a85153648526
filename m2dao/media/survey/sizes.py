"""Finds the sizes that pictures of a live stream change to, without decoding all of it."""

from __future__ import annotations

import re

import av
import av.error

# Types of the units that hold a size, and where a unit's first byte holds its type.
_PARAMETERS = {"h264": (7, 0x1F, 0), "hevc": (33, 0x3F, 1)}
_START = b"\0\0\1"
_SEQUENCE = re.compile(rb"\x00\x00\x01\xb3(...)", re.DOTALL)  # of MPEG-1 and -2
_MAX_DECODED = 16  # key frames with parameters of their own; a crafted file may hold thousands
_REACH = 4096  # bytes of a key frame in which its parameters lie


class AnnouncedSizes:
    """Width and height that key frames announce; live streams change size at will."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, int] | None] = {}

    def __call__(self, packet: av.Packet) -> tuple[int, int] | None:
        """The size of the pictures from a key frame on; None where it announces none."""
        name = packet.stream.codec_context.name if packet.stream.codec_context is not None else ""
        head = bytes(memoryview(packet)[:_REACH])
        if name == "vp8":
            return vp8_size(head)
        if name in ("vp9", "libvpx-vp9"):
            return vp9_size(head)
        if name in ("mpeg1video", "mpeg2video"):
            found = _SEQUENCE.search(head)
            bits = int.from_bytes(found[1], "big") if found else 0
            return (bits >> 12, bits & 0xFFF) if found else None
        if name in _PARAMETERS and head.startswith((_START, b"\0" + _START)):
            parameters = _units(head, *_PARAMETERS[name])
            if parameters and parameters not in self._known and len(self._known) < _MAX_DECODED:
                self._known[parameters] = _decoded_size(name, packet)
            return self._known.get(parameters)
        return None


def _units(head: bytes, wanted: int, mask: int, shift: int) -> bytes:
    """The units of a type in a piece of a stream with start codes."""
    units = head.split(_START)[1:]
    return b"".join(unit for unit in units if unit and (unit[0] >> shift) & mask == wanted)


def _decoded_size(name: str, packet: av.Packet) -> tuple[int, int] | None:
    """Of a key frame that is decoded by itself."""
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    try:
        frames = [*decoder.decode(av.Packet(bytes(memoryview(packet)))), *decoder.decode(None)]
    except av.error.FFmpegError:
        return None  # damage: the readers find out whether enough is left
    return (frames[0].width, frames[0].height) if frames else None


def vp8_size(head: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a VP8 key frame."""
    if len(head) < 10 or head[3:6] != b"\x9d\x01\x2a":
        return None
    return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF


def vp9_size(head: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a VP9 key frame."""
    if len(head) < 10 or head[0] >> 4 != 0b1000 or head[1:4] != b"\x49\x83\x42":  # profile 0, the one streamed
        return None
    bits = int.from_bytes(head[:10], "big")
    return (bits >> 28 & 0xFFFF) + 1, (bits >> 12 & 0xFFFF) + 1
