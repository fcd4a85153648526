"""Parses media containers into boxes, and changes a file box by box.

A box is whatever its container is built of: an atom of mp4, an element of Matroska, a chunk of RIFF, a page of Ogg, a
tag of FLV, a packet of a transport stream.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

MAX_BOXES = 5000
_ATOMS = b"moov trak mdia minf stbl edts dinf udta moof traf mvex mfra".split()
_MASTER_IDS = {0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0x1549A966, 0x1C53BB6B, 0x114D9B74, 0xA0}
_MASTER_IDS |= {0xBB, 0xB7, 0xE0, 0xE1, 0x1254C367, 0x7373, 0x63C0, 0x67C8, 0x4DBB}
_SIZES = (0, 1, 2, 7, 8, 9, 16, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass
class Box:
    """Bytes from ``start`` to before ``end``; places of fields are (first byte, number of bytes)."""

    start: int
    end: int
    name: tuple[int, int]
    size: tuple[int, int] | None  # None where the size is not written as a number
    body: int
    little_endian: bool = False
    inner: list[Box] = field(default_factory=list)

    def all(self) -> Iterator[Box]:
        yield self
        for box in self.inner:
            yield from box.all()


def parse(data: bytes) -> list[Box]:
    """The boxes of a file, outermost first; none of a file of no known kind."""
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"moof"):
        return list(_atoms(data, 0, len(data)))
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return list(_elements(data, 0, len(data), 0))
    if data[:4] in (b"RIFF", b"RIFX", b"FORM"):
        return list(_chunks(data, 0, len(data), 0, "<" if data[:4] == b"RIFF" else ">"))
    if data[:4] == b"OggS":
        return list(_pages(data))
    if data[:3] == b"FLV":
        return list(_tags(data))
    if data[:1] == b"\x47" and data[188:189] == b"\x47":
        return [Box(at, at + 188, (at + 1, 2), None, at + 4) for at in range(0, len(data) - 187, 188)][:MAX_BOXES]
    if data[:4] == b"fLaC":
        return list(_blocks(data))
    return []


def _atoms(data: bytes, start: int, end: int) -> Iterator[Box]:
    while start + 8 <= end:
        size, name = struct.unpack(">I4s", data[start : start + 8])
        body = start + 8
        place = (start, 4)
        if size == 1 and start + 16 <= end:
            size, body, place = int.from_bytes(data[start + 8 : start + 16], "big"), start + 16, (start + 8, 8)
        stop = end if size == 0 else min(start + size, end)
        if stop < body:
            return
        box = Box(start, stop, (start + 4, 4), place, body)
        if name in _ATOMS:
            box.inner = list(_atoms(data, body, stop))
        elif name == b"stsd":
            box.inner = list(_atoms(data, body + 8, stop))
        yield box
        start = stop


def _vint(data: bytes, at: int, keep: bool) -> tuple[int, int]:
    """A number of Matroska and how many bytes it takes; 0 bytes where there is none."""
    if at >= len(data) or not data[at]:
        return 0, 0
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big")
    return (value if keep else value & ((1 << 7 * length) - 1)), length


def _elements(data: bytes, start: int, end: int, depth: int) -> Iterator[Box]:
    while start < end:
        number, id_bytes = _vint(data, start, True)
        size, size_bytes = _vint(data, start + id_bytes, False)
        body = start + id_bytes + size_bytes
        if not id_bytes or not size_bytes or body > end:
            return
        unknown = size == (1 << 7 * size_bytes) - 1
        stop = end if unknown else min(body + size, end)
        box = Box(start, stop, (start, id_bytes), (start + id_bytes, size_bytes), body)
        if number in _MASTER_IDS and depth < 8:
            box.inner = list(_elements(data, body, stop, depth + 1))
        yield box
        start = stop


def _chunks(data: bytes, start: int, end: int, depth: int, order: str) -> Iterator[Box]:
    while start + 8 <= end:
        name, size = struct.unpack(order + "4sI", data[start : start + 8])
        stop = min(start + 8 + size + size % 2, end)
        box = Box(start, stop, (start, 4), (start + 4, 4), start + 8, order == "<")
        if name in (b"RIFF", b"RIFX", b"FORM", b"LIST") and depth < 8:
            box.inner = list(_chunks(data, start + 12, stop, depth + 1, order))
        yield box
        start = stop


def _pages(data: bytes) -> Iterator[Box]:
    start = 0
    while start + 27 <= len(data) and data[start : start + 4] == b"OggS":
        num = data[start + 26]
        body = start + 27 + num
        stop = min(body + sum(data[start + 27 : body]), len(data))
        yield Box(start, stop, (start, 4), (start + 26, 1), body)
        start = stop


def _tags(data: bytes) -> Iterator[Box]:
    start = 13
    while start + 15 <= len(data):
        size = int.from_bytes(data[start + 1 : start + 4], "big")
        stop = min(start + 11 + size + 4, len(data))
        yield Box(start, stop, (start, 1), (start + 1, 3), start + 11)
        start = stop


def _blocks(data: bytes) -> Iterator[Box]:
    start, is_last = 4, False
    while not is_last and start + 4 <= len(data):
        is_last = bool(data[start] & 0x80)
        stop = min(start + 4 + int.from_bytes(data[start + 1 : start + 4], "big"), len(data))
        yield Box(start, stop, (start, 1), (start + 1, 3), start + 4)
        start = stop


def _number(box: Box, place: tuple[int, int], value: int, data: bytes) -> bytes:
    """The file with another number at a place."""
    at, length = place
    order = "little" if box.little_endian else "big"
    return data[:at] + (value % (1 << 8 * length)).to_bytes(length, order) + data[at + length :]


def _size(data: bytes, box: Box, others: list[Box], rng: np.random.Generator) -> bytes:
    if box.size is None:
        return _content(data, box, others, rng)
    order = "little" if box.little_endian else "big"
    at, length = box.size
    now = int.from_bytes(data[at : at + length], order)
    lies = (*_SIZES, now + 1, now - 1, now * 2, now // 2, now + int(rng.integers(-64, 64)), int(rng.integers(1 << 31)))
    return _number(box, box.size, lies[rng.integers(len(lies))], data)


def _type(data: bytes, box: Box, others: list[Box], rng: np.random.Generator) -> bytes:
    at, length = box.name
    other = others[rng.integers(len(others))].name
    name = data[other[0] : other[0] + length] if rng.random() < 0.7 else rng.bytes(length)
    return data[:at] + name.ljust(length, b"\0") + data[at + length :]


def _drop(data: bytes, box: Box, others: list[Box], rng: np.random.Generator) -> bytes:
    return data[: box.start] + data[box.end :]


def _duplicate(data: bytes, box: Box, others: list[Box], rng: np.random.Generator) -> bytes:
    times = int(rng.choice([1, 1, 2, 50])) if box.end - box.start < 4000 else 1
    return data[: box.end] + data[box.start : box.end] * times + data[box.end :]


def _swap(data: bytes, box: Box, others: list[Box], rng: np.random.Generator) -> bytes:
    first, second = sorted((box, others[rng.integers(len(others))]), key=lambda each: each.start)
    if second.start < first.end:
        return _drop(data, box, others, rng)
    between = data[first.end : second.start]
    return (
        data[: first.start]
        + data[second.start : second.end]
        + between
        + data[first.start : first.end]
        + data[second.end :]
    )


def _truncate(data: bytes, box: Box, others: list[Box], rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(box.start, box.end + 1))]


def _content(data: bytes, box: Box, others: list[Box], rng: np.random.Generator) -> bytes:
    """Numbers in the box as large, small or many as they go."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if box.end - box.body >= 4:
            at = box.body + 4 * int(rng.integers(min((box.end - box.body) // 4, 40)))
            out[at : at + 4] = struct.pack(">I", int(rng.choice(_SIZES)))
    return bytes(out)


def _nest(data: bytes, box: Box, others: list[Box], rng: np.random.Generator) -> bytes:
    """The box in itself, many times over."""
    if box.size is None or box.size[1] != 4 or box.end - box.start > 2000:
        return _duplicate(data, box, others, rng)
    order = "<" if box.little_endian else ">"
    inner = data[box.start : box.end]
    for _ in range(int(rng.choice([2, 20, 500]))):
        name = data[box.name[0] : box.name[0] + 4]
        if box.size[0] < box.name[0]:
            inner = struct.pack(order + "I", len(inner) + 8) + name + inner
        else:
            inner = name + struct.pack(order + "I", len(inner)) + inner
    return data[: box.start] + inner + data[box.end :]


WAYS: dict[str, Callable[[bytes, Box, list[Box], np.random.Generator], bytes]] = {
    "size": _size,
    "type": _type,
    "drop": _drop,
    "duplicate": _duplicate,
    "swap": _swap,
    "truncate": _truncate,
    "content": _content,
    "nest": _nest,
}
_CHANGES_LENGTH = ("drop", "duplicate", "nest")


def mutate(data: bytes, rng: np.random.Generator, way: str | None = None) -> bytes:
    """A file with one to three boxes changed; the same bytes where it has none.

    The boxes around one that changes its length are made to fit half the time, and lie the other half.
    """
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        boxes = [box for outer in parse(data) for box in outer.all()][:MAX_BOXES]
        if not boxes:
            return data
        box = boxes[rng.integers(len(boxes))]
        chosen = way or list(WAYS)[rng.integers(len(WAYS))]
        changed = WAYS[chosen](data, box, boxes, rng)
        if chosen in _CHANGES_LENGTH and rng.random() < 0.5:
            changed = _fitted(data, changed, box, boxes)
        data = changed
    return data


def _fitted(before: bytes, changed: bytes, box: Box, boxes: list[Box]) -> bytes:
    """``changed``, with the sizes of all boxes around ``box`` made true."""
    grown = len(changed) - len(before)
    for outer in boxes:
        if outer.size is not None and outer.start < box.start and box.end <= outer.end and outer.size[1] >= 4:
            at, length = outer.size
            now = int.from_bytes(before[at : at + length], "little" if outer.little_endian else "big")
            changed = _number(outer, outer.size, now + grown, changed)
    return changed
