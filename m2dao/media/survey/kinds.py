"""Names files that are no recording: photographs, web pages, error messages, archives."""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEAD_BYTES = 4096
_DOWNLOAD = "the download failed or was saved wrongly; get the recording itself"
_PHOTO = "a photograph neither moves nor speaks; record a video"
_ARCHIVE = "unpack it and give the recording inside"


@dataclass(frozen=True)
class Kind:
    """What a file is, in words, and what its owner can do."""

    name: str
    remedy: str


# First bytes, from an offset on.
_SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\xff\xd8\xff", Kind("a photograph (JPEG)", _PHOTO)),
    (0, b"\x89PNG\r\n\x1a\n", Kind("a photograph or drawing (PNG)", _PHOTO)),
    (0, b"GIF8", Kind("a GIF, which has no sound", "record a video with sound")),
    (0, b"BM", Kind("a photograph or drawing (BMP)", _PHOTO)),
    (0, b"II*\0", Kind("a photograph (TIFF or raw)", _PHOTO)),
    (0, b"MM\0*", Kind("a photograph (TIFF or raw)", _PHOTO)),
    (8, b"WEBP", Kind("a photograph (WebP)", _PHOTO)),
    (0, b"\0\0\0\x0cjP  ", Kind("a photograph (JPEG 2000)", _PHOTO)),
    (0, b"\0\0\0\x0cJXL ", Kind("a photograph (JPEG XL)", _PHOTO)),
    (0, b"\xff\x0a", Kind("a photograph (JPEG XL)", _PHOTO)),
    (0, b"%PDF", Kind("a PDF document", "give a recording")),
    (0, b"PK\x03\x04", Kind("a ZIP archive or an office document", _ARCHIVE)),
    (0, b"Rar!", Kind("a RAR archive", _ARCHIVE)),
    (0, b"7z\xbc\xaf", Kind("a 7z archive", _ARCHIVE)),
    (0, b"\x1f\x8b", Kind("data packed by gzip", "unpack it first, or send it without Content-Encoding")),
    (0, b"MThd", Kind("a MIDI file, which holds notes and no sound", "export it as WAV")),
    (0, b"DKIF", Kind("an IVF stream, which has no sound", "record into webm or mp4")),
)
_FIRST_BOXES = (b"ftyp", b"moov", b"wide", b"free", b"mdat", b"skip")
_STILL_BRANDS = {b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis", b"hevc", b"hevx"}


def kind_of(path: Path) -> Kind | None:
    """What `path` is, when it is something known that holds no recording; None when that cannot be told."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for offset, signature, kind in _SIGNATURES:
        if head[offset:].startswith(signature) and (signature != b"BM" or _is_bitmap(head)):
            return kind
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        return Kind("a photograph (HEIC or AVIF)", _PHOTO)
    return _kind_of_text(head)


def _is_bitmap(head: bytes) -> bool:
    return len(head) > 18 and struct.unpack("<I", head[14:18])[0] in (12, 40, 52, 56, 64, 108, 124)


def lacks_index(path: Path) -> bool:
    """Whether this is an mp4 that was not finished: pictures, but nothing that says where they are."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[4:8] not in _FIRST_BOXES:
            return False
        return all(name != b"moov" for name, _, _ in _boxes(data))


def _boxes(data: mmap.mmap) -> Iterator[tuple[bytes, int, int]]:
    """Names, starts and ends of the boxes at top level."""
    position = 0
    while position + 16 <= len(data):
        size, name = struct.unpack(">I4s", data[position : position + 8])
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        end = min(position + size, len(data)) if size >= 8 else len(data)  # a size may lie
        yield name, position, end
        position = end


def _kind_of_text(head: bytes) -> Kind | None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") and b"\0" in head[2:10]:
        text = head.decode("utf-16", "replace")
    else:
        if b"\0" in head:
            return None
        try:
            text = head.decode("utf-8", "strict" if len(head) < _HEAD_BYTES else "ignore")
        except UnicodeDecodeError:
            return None
    text = text.lstrip("\ufeff \t\r\n")
    start = text[:200].lower()
    for begins, kind in (
        ("<!doctype html", Kind("a web page (HTML)", _DOWNLOAD)),
        ("<html", Kind("a web page (HTML)", _DOWNLOAD)),
        ("<svg", Kind("a drawing (SVG)", _PHOTO)),
        ("<?xml", Kind("XML text, as storage services answer when a link has expired", _DOWNLOAD)),
        ("data:", Kind("a data URL, which is text", "decode its base64 and send the bytes")),
        ("#extm3u", Kind("a playlist, which only names other files", "give the recording itself")),
        ("ffconcat", Kind("a playlist, which only names other files", "give the recording itself")),
        ("version https://git-lfs", Kind("a Git LFS pointer, which only names a file", "fetch the file itself")),
    ):
        if start.startswith(begins):
            return kind
    if start[:1] in ("{", "[") and '"' in start:
        return Kind("JSON text, as services answer when something failed", _DOWNLOAD)
    packed = "".join(text.split())
    if len(packed) >= 64 and re.fullmatch(r"[A-Za-z0-9+/_-]+={0,2}", packed):
        return Kind("base64 text", "decode it and send the bytes")
    return Kind("plain text", _DOWNLOAD) if text.isprintable() or "\n" in text else None


def dolby_vision_profile(path: Path) -> int | None:
    """The Dolby Vision profile that an mp4 or mov declares; None without one."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[4:8] not in _FIRST_BOXES:
            return None
        for name, start, end in _boxes(data):
            for box in (b"dvcC", b"dvvC", b"dvwC") if name == b"moov" else ():
                at = data.find(box, start, end)
                if 0 <= at < end - 6:
                    return data[at + 6] >> 1
    return None
