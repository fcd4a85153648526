"""Crafted files by kind: each a name and its bytes, made from small good files of every container."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator

import numpy as np

from tests.support.media.boxes import Box, mutate, parse
from tests.support.media.sounds import spoken, wav_bytes

Files = dict[str, bytes]
MAX_CUTS = 24  # of one file
VOICE = wav_bytes(spoken(0.5), 16_000)


def _atom(name: bytes, body: bytes = b"", *, size: int | None = None) -> bytes:
    return struct.pack(">I4s", len(body) + 8 if size is None else size, name) + body


def _element(number: bytes, body: bytes = b"", *, size: bytes | None = None) -> bytes:
    length = (len(body) | 1 << 56).to_bytes(8, "big") if size is None else size
    return number + length + body


def _at(data: bytes, name: bytes, offset: int, value: bytes) -> bytes:
    """The file with other bytes so far behind the first box of a name."""
    at = data.index(name) + 4 + offset
    return data[:at] + value + data[at + len(value) :]


def _all_boxes(data: bytes) -> list[Box]:
    return [box for outer in parse(data) for box in outer.all()]


def bombs_in_time(good: Files) -> Iterator[tuple[str, bytes]]:
    """Years in a few bytes."""
    mp4, mkv = good["film.mp4"], good["film.mkv"]
    for value in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0"):
        yield f"stts-{value[0]}", _at(mp4, b"stts", 12, value)
        yield f"mdhd-{value[0]}", _at(mp4, b"mdhd", 16, value)
        yield f"timescale-{value[0]}", _at(mp4, b"mdhd", 12, value)
        yield f"edit-{value[0]}", _at(mp4, b"elst", 8, value)
        yield f"begins-{value[0]}", _at(mp4, b"elst", 12, value)
    scale = mkv.index(b"\x2a\xd7\xb1")  # TimestampScale
    yield "scale-1", mkv[: scale + 4] + b"\0\0\1" + mkv[scale + 7 :]
    yield "scale-16m", mkv[: scale + 4] + b"\xff\xff\xff" + mkv[scale + 7 :]
    cluster = mkv.index(b"\x1f\x43\xb6\x75")
    yield "clusters", mkv[:cluster] + mkv[cluster:] * 400
    page = good["sound.ogg"].rindex(b"OggS")
    yield "granule", good["sound.ogg"][: page + 6] + b"\xff" * 7 + b"\x7f" + good["sound.ogg"][page + 14 :]
    yield "slow", VOICE[:24] + struct.pack("<I", 1) + VOICE[28:]


def bombs_in_size(good: Files) -> Iterator[tuple[str, bytes]]:
    """Gigabytes that are only promised."""
    mp4 = good["film.mp4"]
    for count in (0xFFFFFFFF, 0x10000000, 1_000_000):
        number = struct.pack(">I", count)
        yield f"samples-{count}", _at(mp4, b"stsz", 8, number)
        yield f"sample-size-{count}", _at(mp4, b"stsz", 4, number)
        yield f"chunks-{count}", _at(mp4, b"stco", 4, number)
        yield f"times-{count}", _at(mp4, b"stts", 4, number)
        yield f"edits-{count}", _at(mp4, b"elst", 4, number)
    yield "data", wav_bytes(spoken(0.5), 16_000, data_size=0xFFFFFFF0)
    yield "fmt", VOICE[:16] + struct.pack("<I", 0x7FFFFFFF) + VOICE[20:]
    yield "list", VOICE[:12] + b"LIST" + struct.pack("<I", 0xFFFFFFF0) + VOICE[12:]
    yield "picture", good["sound.flac"][:4] + b"\x06\xff\xff\xff" + good["sound.flac"][4:]
    yield "void", good["film.mkv"] + _element(b"\xec", size=b"\x01" + b"\xff" * 6 + b"\xfe")
    yield "mdat", _atom(b"ftyp", b"isom\0\0\0\0isom") + struct.pack(">I4sQ", 1, b"mdat", 1 << 62) + mp4


def bombs_in_pixels(good: Files) -> Iterator[tuple[str, bytes]]:
    """Pictures of gigapixels."""
    mp4, webm = good["film.mp4"], good["call.webm"]
    for side in (0xFFFF, 0x8000, 0):
        both = struct.pack(">HH", side, side)
        yield f"avc1-{side}", _at(mp4, b"avc1", 24, both)
        yield f"tkhd-{side}", _at(mp4, b"tkhd", 76, struct.pack(">HHHH", side, 0, side, 0))
    key = webm.index(b"\x9d\x01\x2a")
    for side in (0x3FFF, 0x2000, 0):
        yield f"vp8-{side}", webm[: key + 3] + struct.pack("<HH", side, side) + webm[key + 7 :]
    for number, name in ((b"\xb0", "width"), (b"\xba", "height")):
        at = webm.index(number, webm.index(b"\xe0"))
        size = webm[at + 1] & 0x7F
        yield name, webm[: at + 2] + b"\xff" * size + webm[at + 2 + size :]
    avi = good["film.avi"]
    yield "avi", _at(avi, b"strf", 8, struct.pack("<II", 60_000, 60_000))
    yield "avih", _at(avi, b"avih", 36, struct.pack("<II", 0x7FFFFFFF, 0x7FFFFFFF))


def bombs_in_channels(good: Files) -> Iterator[tuple[str, bytes]]:
    """Sound of none and of thousands of channels, at rates nobody hears."""
    for count in (0, 255, 1024, 0xFFFF):
        yield f"wav-{count}", VOICE[:22] + struct.pack("<H", count) + VOICE[24:]
        yield f"mp4-{count}", _at(good["film.mp4"], b"mp4a", 16, struct.pack(">H", count))
    for rate in (0, 0x7FFFFFFF, 0xFFFFFFFF):
        yield f"rate-{rate}", VOICE[:24] + struct.pack("<I", rate) + VOICE[28:]
        yield f"aiff-{rate}", _at(good["sound.aiff"], b"COMM", 12, struct.pack(">HI", 0x7FFF, rate))
    yield "bits", VOICE[:34] + struct.pack("<H", 0) + VOICE[36:]
    yield "align", VOICE[:32] + struct.pack("<H", 0) + VOICE[34:]
    yield "au", b".snd" + struct.pack(">5I", 24, 0xFFFFFFFF, 3, 16_000, 0xFFFFFFFF) + bytes(4000)


def bombs_in_nesting(good: Files) -> Iterator[tuple[str, bytes]]:
    """Boxes in boxes in boxes, and very many beside each other."""
    for name in (b"moov", b"trak", b"udta", b"meta"):
        inner = b""
        for _ in range(8000):
            inner = _atom(name, inner)
        yield f"atoms-{name.decode()}", _atom(b"ftyp", b"isom\0\0\0\0") + inner
    inner = b""
    for _ in range(3000):
        inner = _element(b"\x1f\x43\xb6\x75", inner)
    yield "elements", good["film.mkv"] + inner
    inner = b""
    for _ in range(8000):
        inner = b"LIST" + struct.pack("<I", len(inner) + 4) + b"INFO" + inner
    yield "lists", b"RIFF" + struct.pack("<I", len(inner) + 4) + b"AVI " + inner
    yield "wavs", VOICE[:44] * 1500
    yield "headers", VOICE[:12] * 2000
    yield "pages", (b"OggS\0\x02" + bytes(20) + b"\x01\x00") * 3000
    yield "atoms", _atom(b"ftyp") * 5000
    yield "ebml", b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm" * 500
    yield "tracks", _at(good["film.mp4"], b"moov", 0, b"") + b"".join(_atom(b"trak") for _ in range(2000))
    yield "tags", (b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)) * 2000


def cut_at_every_box(good: Files) -> Iterator[tuple[str, bytes]]:
    """Files that end where a box begins, behind its header, and within its first number."""
    for name, data in good.items():
        boxes = _all_boxes(data)
        cuts = sorted({cut for box in boxes for cut in (box.start, box.body, box.body + 3) if 0 < cut < len(data)})
        for cut in [cuts[round(at)] for at in np.linspace(0, len(cuts) - 1, min(MAX_CUTS, len(cuts)))]:
            yield f"{cut}-{name}", data[:cut]


def changed_box_by_box(good: Files) -> Iterator[tuple[str, bytes]]:
    """One of each way that the fuzzer knows, for each container."""
    from tests.support.media.boxes import WAYS

    for number, (name, data) in enumerate(good.items()):
        for way in WAYS:
            yield f"{way}-{name}", mutate(data, np.random.default_rng(number), way)


def polyglots(good: Files) -> Iterator[tuple[str, bytes]]:
    """Files that are two things at once."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(1_000_000))
    others = {
        "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
        "png": b"\x89PNG\r\n\x1a\n",
        "gif": b"GIF89a\1\0\1\0",
        "pdf": b"%PDF-1.7\n",
        "zip": packed.getvalue(),
        "html": b"<html><script>alert(1)</script>",
        "php": b"<?php system($_GET['c']); ?>",
        "shell": b"#!/bin/sh\nexit 1\n",
        "elf": b"\x7fELF\2\1\1\0",
        "id3": b"ID3\x04\0\0\0\0\0\x0a" + bytes(10),
    }
    for name, other in others.items():
        yield f"{name}-wav", other + VOICE
        yield f"{name}-mp4", other + good["film.mp4"]
        yield f"wav-{name}", VOICE + other
        yield f"mp4-{name}", good["film.mp4"] + other


def lying_headers(good: Files) -> Iterator[tuple[str, bytes]]:
    """Files whose first bytes are of another kind than the rest."""
    for name, data in good.items():
        for other in ("film.mp4", "film.mkv", "sound.wav", "sound.ogg", "film.ts"):
            if name != other:
                yield f"{name}-as-{other}", good[other][:16] + data[16:]
    yield "rifx", b"RIFX" + VOICE[4:]
    yield "zeros", bytes(100_000)
    yield "noise", np.random.default_rng(0).bytes(100_000)


def playlists_and_references(good: Files) -> Iterator[tuple[str, bytes]]:
    """Files that name other files and addresses."""
    target = b"http://127.0.0.1:9/x.ts"
    for where in (target, b"/etc/passwd", b"file:///etc/passwd", b"concat:/etc/passwd|/etc/hosts"):
        number = len(where)
        yield f"m3u-{number}", b"#EXTM3U\n#EXTINF:1,\n" + where + b"\n"
        yield f"hls-{number}", b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:10.0,\n" + where + b"\n#EXT-X-ENDLIST\n"
        yield f"concat-{number}", b"ffconcat version 1.0\nfile '" + where + b"'\n"
        yield f"pls-{number}", b"[playlist]\nFile1=" + where + b"\nNumberOfEntries=1\n"
        yield f"asx-{number}", b'<asx version="3.0"><entry><ref href="' + where + b'"/></entry></asx>'
        yield f"dash-{number}", b'<?xml version="1.0"?><MPD><BaseURL>' + where + b"</BaseURL></MPD>"
        yield f"smil-{number}", b"<smil><body><video src='" + where + b"'/></body></smil>"
        yield f"rtsp-{number}", b"RTSPtext\n" + where + b"\n"
        reference = _atom(
            b"rmra", _atom(b"rmda", _atom(b"rdrf", bytes(4) + b"url " + struct.pack(">I", number) + where))
        )
        yield f"movie-{number}", _atom(b"ftyp", b"qt  \0\0\0\0") + _atom(b"moov", reference)
        body = good["film.mov"]
        at = body.index(b"url ")
        yield f"dref-{number}", body[: at - 4] + _atom(b"url ", bytes(4) + where + b"\0") + body[at + 8 :]
    yield "sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n"
    yield "lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def endless_streams(good: Files) -> Iterator[tuple[str, bytes]]:
    """Streams without an end, of nothing new."""
    yield "mdat", _atom(b"ftyp", b"isom" + bytes(12)) + _atom(b"mdat", bytes(99_999), size=0)
    yield "segment", good["film.mkv"].replace(b"\x18\x53\x80\x67\x01", b"\x18\x53\x80\x67\x01", 1)[:-200]
    unknown = b"\x01" + b"\xff" * 7
    segment = good["film.mkv"].index(b"\x18\x53\x80\x67")
    open_end = good["film.mkv"][: segment + 4] + unknown + good["film.mkv"][segment + 12 :]
    yield "unknown-size", open_end
    yield "clusters", open_end + open_end[open_end.index(b"\x1f\x43\xb6\x75") :] * 200
    yield "transport", good["film.ts"] * 200
    yield "nulls", good["film.ts"] + (b"\x47\x1f\xff\x10" + bytes(184)) * 20_000
    pages = good["sound.ogg"]
    last = pages.rindex(b"OggS")
    yield "no-last-page", pages[:last] + (pages[last : last + 5] + b"\0" + pages[last + 6 :]) * 500
    yield "packets", good["sound.mp3"] * 100
    yield "streamed", wav_bytes(spoken(0.5), 16_000, data_size=0xFFFFFFFF) + bytes(2_000_000)
    yield "tags", good["film.flv"] + good["film.flv"][13:] * 100


KINDS: dict[str, Callable[[Files], Iterator[tuple[str, bytes]]]] = {
    "bombs in time": bombs_in_time,
    "bombs in size": bombs_in_size,
    "bombs in pixels": bombs_in_pixels,
    "bombs in channels": bombs_in_channels,
    "bombs in nesting": bombs_in_nesting,
    "cut at every box": cut_at_every_box,
    "changed box by box": changed_box_by_box,
    "polyglots": polyglots,
    "lying headers": lying_headers,
    "playlists and references": playlists_and_references,
    "endless streams": endless_streams,
}
