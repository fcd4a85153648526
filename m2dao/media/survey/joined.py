"""Finds the recordings in a file: several, where somebody glued complete files together.

Demuxers stop at the end that the first header declares, or count time anew in the middle. So each part is read by
itself, as the range of bytes that it is.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from m2dao.errors import MediaError
from m2dao.media.container import Part, RawSound

MAX_PARTS = 1000
MAX_TRAILING_BYTES = 4096  # tags and padding after the end are common; more is content that would be lost
_WAVE = re.compile(rb"(?:RIFF|RIFX|RF64)....WAVE", re.DOTALL)
_EBML = re.compile(rb"\x1a\x45\xdf\xa3.{4,80}?\x42\x82.(?:webm|matroska)", re.DOTALL)
# Headers that begin a whole file, and that no content holds by chance.
_HEADERS: tuple[tuple[bytes, re.Pattern[bytes]], ...] = (
    (b"RIFF", re.compile(rb"RIFF....AVI LIST", re.DOTALL)),
    (b"\x1a\x45\xdf\xa3", _EBML),
    (b"fLaC", re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")),
    (b"FORM", re.compile(rb"FORM....AIF[FC]", re.DOTALL)),
    (b"caff", re.compile(rb"caff\x00[\x01\x02]\x00\x00desc")),
    (b"riff\x2e\x91\xcf\x11", re.compile(rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00")),
    (b"#!AMR", re.compile(rb"#!AMR(?:-WB)?\n")),
    (b"FLV\x01", re.compile(rb"FLV\x01[\x01\x04\x05]\x00\x00\x00\x09")),
    (b"\x30\x26\xb2\x75", re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c")),
    (b".snd", re.compile(rb"\.snd\x00\x00.{6}\x00\x00\x00[\x01-\x1b]\x00.{3}\x00\x00\x00[\x01-\x20]", re.DOTALL)),
    (b"wvpk", re.compile(rb"wvpk.{4}[\x02-\x20]\x04.\x00.{4}\x00{4}.{5}[\x08-\x0f\x18-\x1f].{2}", re.DOTALL)),
    (b"Creative", re.compile(rb"Creative Voice File\x1a")),
)
# What may follow a WAV file and is a recording of another kind.
_STARTS = (b"OggS", b"fLaC", b"ID3", b"\x1a\x45\xdf\xa3", b"FORM", b"caff", b"#!AMR", b".snd")
_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_BIG_ENDIAN = {(_PCM, 8): "u8", (_ALAW, 8): "alaw", (_MULAW, 8): "mulaw"}
_BIG_ENDIAN |= {(_PCM, bits): f"s{bits}be" for bits in (16, 24, 32)} | {
    (_FLOAT, bits): f"f{bits}be" for bits in (32, 64)
}


def find_parts(path: Path) -> tuple[Part, ...]:
    """The recordings in a file, in order.

    Raises:
        MediaError: there is something in it after the sound that its header declares, or there are too many parts.
    """
    num_bytes = path.stat().st_size
    if num_bytes < 16:
        return (Part(0, num_bytes),)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        starts = [0, *_later_starts(data)]
        if len(starts) > MAX_PARTS:
            raise MediaError(str(path), f"at most {MAX_PARTS} recordings in one file", "more", "join them by a program")
        parts: list[Part] = []
        for start, end in zip(starts, [*starts[1:], num_bytes], strict=True):
            parts += _wave_parts(path, data, start, end) if _WAVE.match(data, start) else [Part(start, end)]
    return tuple(parts)


def _later_starts(data: mmap.mmap) -> Iterator[int]:
    """Where further recordings of the first one's kind begin."""
    if data[:4] == b"OggS":
        yield from _chained(data)
    elif data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        yield from _second_files(data)
    else:
        pattern = _WAVE if _WAVE.match(data) else None
        for magic, header in _HEADERS:
            if pattern is None and data[: len(magic)] == magic and header.match(data):
                pattern = header
        if pattern is not None:
            yield from (found.start() for found in pattern.finditer(data, 4))


def _chained(data: mmap.mmap) -> Iterator[int]:
    """Starts of the links of an Ogg chain: a page that begins a stream after pages that do not."""
    position, num_bytes, in_headers = 0, len(data), True
    while position + 27 <= num_bytes:
        if data[position : position + 4] != b"OggS":
            position = data.find(b"OggS", position + 1)  # damage, or a tag between two links
            if position < 0:
                return
            continue
        begins = bool(data[position + 5] & 2)
        if begins and not in_headers:
            yield position
        in_headers = begins
        num_segments = data[position + 26]
        position += 27 + num_segments + sum(data[position + 27 : position + 27 + num_segments])


def _second_files(data: mmap.mmap) -> Iterator[int]:
    """Starts of further mp4 files: a second ``ftyp`` at top level, once an index has been seen."""
    position, num_bytes, has_index, num_boxes = 0, len(data), False, 0
    while position + 16 <= num_bytes and num_boxes < 1_000_000:
        size, name = struct.unpack(">I4s", data[position : position + 8])
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if name == b"ftyp" and has_index:
            yield position
            has_index = False
        has_index = has_index or name == b"moov"
        if size < 8:
            return
        position += size
        num_boxes += 1


def _wave_parts(path: Path, data: mmap.mmap, start: int, end: int) -> list[Part]:
    """One WAV file: with the order of its bytes, and what follows its declared end."""
    is_big = data[start : start + 4] == b"RIFX"
    order = ">" if is_big else "<"
    body, fmt = None, None
    position = start + 12
    while position + 8 <= end:
        name = data[position : position + 4]
        (size,) = struct.unpack(order + "I", data[position + 4 : position + 8])
        if name == b"fmt ":
            fmt = data[position + 8 : position + 8 + min(size, 40)]
        if name == b"data":
            body = (position + 8, size)
            break
        position += 8 + size + size % 2
    if body is None:
        return [Part(start, end)]
    stop = _end_of_sound(data, start, end, body, order)
    raw = _big_endian(fmt) if is_big and fmt is not None else None
    if is_big and raw is None:
        raise MediaError(
            f"sound of {path}",
            "PCM, float, A-law or mu-law",
            "a big-endian WAV (RIFX) of another kind",
            "export as WAV",
        )
    first = Part(body[0], min(stop, body[0] + body[1]), raw) if raw is not None else Part(start, stop)
    if stop == end:
        return [first]
    if data[stop : stop + 8].startswith(_STARTS):
        return [first, Part(stop, end)]
    if end - stop > MAX_TRAILING_BYTES and any(data[stop:end]):
        raise MediaError(
            f"sound of {path}",
            "the end of the file where its header declares it",
            f"{end - stop} bytes after the sound its header declares",
            "join sounds by a program, or send them one by one",
        )
    return [first]


def _end_of_sound(data: mmap.mmap, start: int, end: int, body: tuple[int, int], order: str) -> int:
    """Where a WAV file ends by its header; `end` where the header holds a placeholder."""
    begin, size = body
    if data[start : start + 4] == b"RF64" or size == 0 or begin + size > end:
        return end
    position = begin + size + size % 2
    (riff,) = struct.unpack(order + "I", data[start + 4 : start + 8])
    if start + 8 + riff >= position:
        position = min(start + 8 + riff + riff % 2, end)
    while position + 8 <= end:  # tags that a program appended without counting them
        name = data[position : position + 4]
        (more,) = struct.unpack(order + "I", data[position + 4 : position + 8])
        if not name.strip().isalnum() or position + 8 + more > end or name in (b"RIFF", b"OggS", b"fLaC"):
            break
        position += 8 + more + more % 2
    return min(position, end)


def _big_endian(fmt: bytes) -> RawSound | None:
    if len(fmt) < 16:
        return None
    kind, num_channels, sample_rate, _, _, bits = struct.unpack(">HHIIHH", fmt[:16])
    if kind == _EXTENSIBLE and len(fmt) >= 26:
        (kind,) = struct.unpack(">H", fmt[24:26])
    name = _BIG_ENDIAN.get((kind, bits))
    return RawSound(name, sample_rate, num_channels) if name and num_channels and sample_rate else None


def split_stream(path: Path, part: Part, positions: list[int]) -> tuple[Part, ...]:
    """A transport or program stream cut where its time stamps begin again.

    Args:
        path: of the file.
        part: of it.
        positions: of the first packets after each restart, bytes from the start of the part.
    """
    starts = [part.start]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        is_transport = data[part.start : part.start + 1] == b"\x47"
        for position in sorted(positions):
            at = part.start + position
            found = _table_before(data, at) if is_transport else data.rfind(b"\0\0\x01\xba", starts[-1] + 1, at + 4)
            if found > starts[-1]:
                starts.append(found)
    return tuple(Part(a, b) for a, b in zip(starts, [*starts[1:], part.end], strict=True))


def _table_before(data: mmap.mmap, at: int) -> int:
    """The transport packet that names the programs, nearest before a position; -1 without one."""
    for position in range(at, max(at - 188 * 200, -1), -188):
        if data[position] == 0x47 and data[position + 1] & 0x1F == 0 and data[position + 2] == 0:
            return position
    return -1
