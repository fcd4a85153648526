"""Which tracks a file has and which can be decoded, known before anything is decoded at length."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field
from pathlib import Path

import av
import av.error

from m2dao.errors import MediaError
from m2dao.media.container import RAW_FORMATS, SOUND_CODECS, Part, check_readable, open_media
from m2dao.media.packets import packets_of
from m2dao.media.survey.joined import find_parts, split_stream
from m2dao.media.survey.stamps import Clock, Stamps, find_restarts, make_clock, scan

MAX_TRIED_PACKETS = 300  # until a track has shown that it decodes
MAX_TRACKS = 100


@dataclass(frozen=True, kw_only=True)
class Track:
    """One track as the file declares it.

    Attributes:
        index: its number in the file; what ``--audio-track`` and ``--video-track`` take.
        kind: "video", "audio", or what else it is.
        trouble: why it cannot be used; empty where it can.
    """

    index: int
    kind: str
    codec: str
    title: str = ""
    is_default: bool = False
    trouble: str = ""
    width: int = 0
    height: int = 0
    sample_rate: int = 0
    num_channels: int = 0

    def __str__(self) -> str:
        title = f" ({self.title!r})" if self.title else ""
        return f"track {self.index}{title}, {self.codec}" + (f": {self.trouble}" if self.trouble else "")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One recording in a file, with the stamps of its tracks."""

    part: Part
    tracks: tuple[Track, ...]
    stamps: dict[int, Stamps] = field(hash=False, compare=False)

    def usable(self, kind: str) -> list[Track]:
        return [track for track in self.tracks if track.kind == kind and not track.trouble]

    def clock(self, *indices: int | None) -> Clock:
        """One clock for the tracks that are used."""
        return make_clock(self.stamps[index] for index in indices if index is not None and index in self.stamps)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is in a file: one source, or several where complete files were glued together."""

    path: Path
    container: str
    sources: tuple[Source, ...]
    sound_only: bool = False

    @property
    def tracks(self) -> tuple[Track, ...]:
        return self.sources[0].tracks

    def choices(self, kind: str, wanted: int | None) -> list[Track]:
        """Tracks that may be used: the one that is asked for, or all that can be decoded.

        Raises:
            MediaError: there is none; says what is there.
        """
        there = [track for track in self.tracks if track.kind == kind]
        subject = str(self.path) if kind == "video" else f"sound of {self.path}"
        word = {"video": "picture", "audio": "sound"}[kind]
        if wanted is not None:
            chosen = [track for track in there if track.index == wanted]
            if not chosen:
                numbers = ", ".join(str(track.index) for track in there) or "none"
                raise MediaError(
                    subject, f"a {word} track of number {wanted}", f"{word} tracks {numbers}", "see m2dao probe"
                )
            there = chosen
        usable = [track for track in there if not track.trouble]
        if usable:
            return usable
        if there:
            got = "; ".join(map(str, there))
            remedy = "export it as mp4 (H.264)" if kind == "video" else "export it as AAC or PCM"
            raise MediaError(subject, f"a {word} track that can be decoded", got, remedy)
        if kind == "video":
            raise MediaError(
                subject,
                "a video",
                "a file without a video stream",
                "give a recording with picture and sound; a truncated file can look like this too",
            )
        raise MediaError(subject, "a sound track", "none", "give a recording with picture and sound")

    def glued_notes(self) -> list[str]:
        """What is unusual about the file as a whole, in words."""
        notes = []
        if len(self.sources) > 1:
            notes.append(f"{len(self.sources)} recordings in one file, read one after the other")
        for source in self.sources:
            used = [stamps for stamps in source.stamps.values() if stamps.num_packets]
            restarts = max((len(find_restarts(stamps)) for stamps in used), default=0)
            if restarts:
                notes.append(f"time stamps start again {restarts} times in the middle; read on as one recording")
        return notes


def survey(path: Path | str, *, sound_only: bool = False) -> Survey:
    """Look at the tracks and stamps of a file; a file that did not change since is not looked at again.

    Args:
        path: of the file.
        sound_only: touch no decoder of pictures; their tracks cannot be used then.

    Raises:
        MediaError: it is no media file, or holds more than one way to read it.
    """
    path = Path(path)
    status = path.stat() if path.is_file() else None
    changed = (status.st_size, status.st_mtime_ns, status.st_ino) if status else ()
    return _survey(path, sound_only, *changed)


@functools.lru_cache(maxsize=16)
def _survey(path: Path, sound_only: bool, *_changed: int) -> Survey:
    sources: list[Source] = []
    name = ""
    check_readable(path)
    for part in find_parts(path):
        source, found = _look(path, part, sound_only)
        name = name or found
        pieces: tuple[Part, ...] = (part,)
        if found in ("mpegts", "mpeg"):
            pieces = split_stream(path, part, _restart_positions(source))
        sources += [source] if len(pieces) == 1 else [_look(path, piece, sound_only)[0] for piece in pieces]
    return Survey(path=path, container=name, sources=tuple(sources), sound_only=sound_only)


def _look(path: Path, part: Part, sound_only: bool) -> tuple[Source, str]:
    """The tracks of a part and the name of its container."""
    with open_media(path, part, sound_only=sound_only) as container:
        name = container_name(container, path)
        streams = itertools.islice(container.streams, MAX_TRACKS)
        tracks = tuple(_describe(stream, sound_only) for stream in streams)
        if not _is_choice(tracks):  # the readers tell what is wrong
            return Source(part=part, tracks=tracks, stamps=scan(container, _used(tracks))), name
    tracks = _try(path, part, tracks, sound_only)
    with open_media(path, part, sound_only=sound_only) as container:
        return Source(part=part, tracks=tracks, stamps=scan(container, _used(tracks))), name


def _used(tracks: tuple[Track, ...]) -> list[int]:
    return [track.index for track in tracks if track.kind in ("video", "audio") and not track.trouble]


def _is_choice(tracks: tuple[Track, ...]) -> bool:
    """Whether there are several tracks of a kind."""
    return any(sum(track.kind == kind for track in tracks) > 1 for kind in ("video", "audio"))


def _restart_positions(source: Source) -> list[int]:
    """Where in a part the stamps of any track begin again, once for each restart."""
    found = [[stamps.positions[number] for number in find_restarts(stamps)] for stamps in source.stamps.values()]
    return [min(at for at in together if at >= 0) for together in zip(*filter(None, found), strict=False)]


def container_name(container: av.container.InputContainer, path: Path) -> str:
    """The container as people call it."""
    name = container.format.name
    if name in RAW_FORMATS:
        return "wav"  # of big-endian samples, the one kind that is opened so
    if name.startswith("mov,"):
        return "mov" if container.metadata.get("major_brand", "qt  ").strip() == "qt" else "mp4"
    if name.startswith("matroska"):
        with path.open("rb") as file:
            return "webm" if b"webm" in file.read(64) else "matroska"
    return name.split(",")[0]


def _describe(stream: av.stream.Stream, sound_only: bool) -> Track:
    context, trouble = stream.codec_context, ""
    width = height = sample_rate = num_channels = 0
    if isinstance(context, av.VideoCodecContext):
        width, height = context.width, context.height
        trouble = "" if width and height else "no picture size"
    elif isinstance(context, av.AudioCodecContext):
        sample_rate, num_channels = context.sample_rate, context.channels
        trouble = "" if sample_rate and num_channels else "no sample rate or no channels"
    elif stream.type in ("video", "audio"):
        trouble = "a codec that nobody here decodes"
    if stream.type == "video" and stream.disposition & stream.disposition.attached_pic:
        trouble = "a cover picture"
    if sound_only and not trouble and stream.type == "video":
        trouble = "pictures are not read here"
    elif sound_only and not trouble and context is not None and context.name not in SOUND_CODECS:
        trouble = "not a codec that speech comes in, such as AAC, MP3, Opus or PCM"
    return Track(
        index=stream.index,
        kind=stream.type or "data",
        codec=context.name if context is not None else "unknown",
        title=stream.metadata.get("title") or _handler(stream),
        is_default=bool(stream.disposition & stream.disposition.default),
        trouble=trouble,
        width=width,
        height=height,
        sample_rate=sample_rate,
        num_channels=num_channels,
    )


def _handler(stream: av.stream.Stream) -> str:
    name = stream.metadata.get("handler_name", "").strip()
    return "" if name in ("SoundHandler", "VideoHandler", "Core Media Audio", "Core Media Video") else name


def _try(path: Path, part: Part, tracks: tuple[Track, ...], sound_only: bool) -> tuple[Track, ...]:
    """The tracks, those marked that do not decode although their codec is known."""
    waiting = set(_used(tracks))
    seen: dict[int, str] = {}
    with open_media(path, part, sound_only=sound_only) as container:
        streams = [container.streams[index] for index in waiting]
        for packet in itertools.islice(packets_of(container, *streams), MAX_TRIED_PACKETS * max(len(streams), 1)):
            if packet.stream_index not in waiting:
                continue
            try:
                if packet.decode():
                    waiting.discard(packet.stream_index)
            except av.error.FFmpegError as error:
                seen[packet.stream_index] = error.strerror or "it does not decode"
            if not waiting:
                break
    return tuple(
        Track(**{**vars(track), "trouble": seen.get(track.index, "nothing in it decodes")})
        if track.index in waiting
        else track
        for track in tracks
    )
