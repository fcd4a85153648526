"""Sound decoding: any rate and channel count in, 16 kHz mono out, on the clock of `video.read_frames`."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from m2dao.errors import MediaError
from m2dao.media.container import DEFAULT_LIMITS, MediaLimits
from m2dao.media.sound.decoding import decode_sound
from m2dao.media.sound.formats import SoundFormat
from m2dao.media.sound.listening import Heard, choose_sound
from m2dao.media.sound.placing import Mended, Piece, place
from m2dao.media.sound.resampling import Resampler
from m2dao.media.survey.timing import recording_clock
from m2dao.media.survey.tracks import Source, Survey, survey
from m2dao.timeline import SAMPLE_RATE


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What is known of a file's sound before it is decoded at length.

    Attributes:
        index: number of the track that is used.
        duration_s: by its time stamps.
        channel: the one that is heard; None for a mix.
        notes: what was chosen and what is unusual, in words.
    """

    path: Path
    index: int
    codec: str
    sample_rate: int
    num_channels: int
    duration_s: float
    channel: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SoundChoice:
    """Which sound of a file is read.

    Attributes:
        limits: of what is read.
        track: number of the track to use; the one with the voice if None.
        video_track: number of the picture track that it belongs to; the largest if None.
        sound_only: the sound is wanted by itself. Sample 0 is the first stored, whatever pictures there are, and no
            decoder of pictures is touched.
    """

    limits: MediaLimits = DEFAULT_LIMITS
    track: int | None = None
    video_track: int | None = None
    sound_only: bool = False


DEFAULT_CHOICE = SoundChoice()


def probe_audio(
    path: Path | str,
    limits: MediaLimits = DEFAULT_LIMITS,
    *,
    track: int | None = None,
    sound_only: bool = False,
) -> AudioInfo:
    """Choose a sound track of `path` and tell what it is.

    Args:
        limits: of what is read.
        track: number of the track to use; the one with the voice if None.
        sound_only: touch no decoder of pictures.

    Raises:
        MediaError: no sound in it, not decodable, or outside `limits`.
    """
    path = Path(path)
    found = survey(path, sound_only=sound_only)
    heard = choose_sound(path, limits, track, sound_only=sound_only)
    clocks = [source.clock(_track_of(source, heard)) for source in found.sources]
    duration_s = sum(clock.length_s for clock in clocks)
    if not duration_s:
        raise _empty(path)
    jumps = [note for clock in clocks for note in _told(Mended(), clock.jumps, 0.0)]
    return AudioInfo(
        path=path,
        index=heard.track.index,
        codec=heard.track.codec,
        sample_rate=heard.track.sample_rate,
        num_channels=heard.track.num_channels,
        duration_s=duration_s,
        channel=heard.mix.channel,
        notes=(*heard.notes, *jumps),
    )


def read_audio(path: Path | str, choice: SoundChoice = DEFAULT_CHOICE, *, notes: list[str] | None = None) -> np.ndarray:
    """The sound of `path` as float32 [S] in -1..1, mono at 16 kHz; arguments as for `read_audio_chunks`."""
    chunks = list(read_audio_chunks(path, choice, notes=notes))
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)


def read_audio_chunks(
    path: Path | str, choice: SoundChoice = DEFAULT_CHOICE, *, notes: list[str] | None = None
) -> Iterator[np.ndarray]:
    """The sound of `path` in pieces, float32 [s], in memory that does not grow with the length.

    Sample 0 is heard when the first video frame is shown: sound that starts earlier is cut, sound that starts later is
    preceded by silence. In a file without video, sample 0 is the first sample stored.

    Args:
        path: of the file.
        choice: which sound of it.
        notes: takes what was chosen, put in and left out, in words; complete when all is read.

    Raises:
        MediaError: no sound in it, not decodable, or outside the limits.
    """
    path, limits = Path(path), choice.limits
    found = survey(path, sound_only=choice.sound_only)
    heard = choose_sound(path, limits, choice.track, sound_only=choice.sound_only)
    resampler = Resampler(SAMPLE_RATE)

    def converted() -> Iterator[np.ndarray]:
        for piece in _whole(found, heard, limits, video_track=choice.video_track, notes=notes):
            yield from resampler.push(heard.mix.mono(piece.samples)[None], piece.sample_rate)
        yield from resampler.finish()

    for samples in _limited(path, converted(), SAMPLE_RATE, limits):
        yield samples[0]


def sent_format(path: Path | str, *, limits: MediaLimits = DEFAULT_LIMITS, track: int | None = None) -> SoundFormat:
    """The format in which `read_sent` gives the sound of `path`.

    Raises:
        MediaError: no sound in it, not decodable, or outside `limits`.
    """
    heard = choose_sound(path, limits, track, sound_only=True, listen=False).track
    return SoundFormat.nearest(heard.sample_rate, heard.num_channels)


def read_sent(
    path: Path | str, *, limits: MediaLimits = DEFAULT_LIMITS, track: int | None = None
) -> Iterator[np.ndarray]:
    """The sound of `path` as it was sent: float32 [C, s] pieces in its `sent_format`.

    It is the sound that `read_audio_chunks` gives with ``sound_only``, on the same clock to the sample, before the mix.

    Raises:
        MediaError: no sound in it, not decodable, or outside `limits`.
    """
    path = Path(path)
    sent = sent_format(path, limits=limits, track=track)
    heard = choose_sound(path, limits, track, sound_only=True, listen=False)
    if heard.track.num_channels > sent.num_channels:
        heard = choose_sound(path, limits, track, sound_only=True)
    pieces = _whole(survey(path, sound_only=True), heard, limits)
    yield from _limited(path, _as_sent(pieces, heard, sent), sent.sample_rate, limits)


def read_both(path: Path | str, *, limits: MediaLimits = DEFAULT_LIMITS) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What `read_audio` gives with ``sound_only`` and what `read_sent` gives, decoded once.

    Yields:
        float32 [s] at 16 kHz and float32 [C, s'] in the `sent_format`, for the same time but for what filters hold.

    Raises:
        MediaError: no sound in it, not decodable, or outside `limits`.
    """
    path = Path(path)
    heard = choose_sound(path, limits, sound_only=True)
    sent = sent_format(path, limits=limits)
    pieces = _joined(_whole(survey(path, sound_only=True), heard, limits))
    if sent == SoundFormat():
        for samples in _limited(path, _as_sent(pieces, heard, sent), SAMPLE_RATE, limits):
            yield samples[0], samples
        return
    resampler = Resampler(SAMPLE_RATE)
    waiting: list[np.ndarray] = []  # [1, s] each

    def listening() -> Iterator[Piece]:
        for piece in pieces:
            waiting.extend(resampler.push(heard.mix.mono(piece.samples)[None], piece.sample_rate))
            yield piece

    for samples in _limited(path, _as_sent(listening(), heard, sent), sent.sample_rate, limits):
        yield _taken(waiting), samples
    waiting.extend(resampler.finish())
    yield _taken(waiting), np.zeros((sent.num_channels, 0), np.float32)


def _taken(waiting: list[np.ndarray]) -> np.ndarray:
    """All that waits, [1, s] each, as [s]; nothing waits any more."""
    joined = np.concatenate([np.zeros((1, 0), np.float32), *waiting], axis=1)[0]
    waiting.clear()
    return joined


def _joined(pieces: Iterator[Piece], *, at_least_s: float = 0.5) -> Iterator[Piece]:
    """The same sound in fewer pieces: some files hold a hundred in a second, and every step costs."""
    held: list[Piece] = []
    for piece in pieces:
        if held and (piece.sample_rate, len(piece.samples)) != (held[0].sample_rate, len(held[0].samples)):
            yield _one(held)
            held = []
        held.append(piece)
        if sum(each.length_s for each in held) >= at_least_s:
            yield _one(held)
            held = []
    if held:
        yield _one(held)


def _one(pieces: list[Piece]) -> Piece:
    samples = np.concatenate([piece.samples for piece in pieces], axis=1)
    return Piece(pieces[0].time_s, samples, pieces[0].sample_rate)


def _as_sent(pieces: Iterator[Piece], heard: Heard, sent: SoundFormat) -> Iterator[np.ndarray]:
    """Pieces in the format in which they were sent, float32 [C, s]."""
    resampler = Resampler(sent.sample_rate, sent.num_channels)
    for piece in pieces:
        yield from resampler.push(_of_channels(piece.samples, heard, sent.num_channels), piece.sample_rate)
    yield from resampler.finish()


def _of_channels(samples: np.ndarray, heard: Heard, num_wanted: int) -> np.ndarray:
    """[num_wanted, S]: the channels themselves where there are so many, else what is heard of them."""
    if samples.shape[0] == num_wanted:
        return samples
    return np.repeat(heard.mix.mono(samples)[None], num_wanted, axis=0)


def as_16_bit(waveform: np.ndarray) -> np.ndarray:
    """float32 [S] with the values it will have after it was stored as 16-bit PCM and read again."""
    return np.round(np.clip(waveform, -1.0, 1.0) * 32767.0).astype(np.float32) / np.float32(32767.0)


def write_wav(target: Path | str | BinaryIO, waveform: np.ndarray) -> None:
    """Write float32 [S] at 16 kHz as 16-bit PCM to a path or an open binary file."""
    samples = np.round(as_16_bit(waveform) * 32767.0).astype("<i2")
    with wave.open(str(target) if isinstance(target, (str, Path)) else target, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(SAMPLE_RATE)
        output.writeframes(samples.tobytes())


def _track_of(source: Source, heard: Heard) -> int:
    """The track of a part that is heard: of the same number, else the first that can be."""
    usable = [track.index for track in source.usable("audio")]
    return heard.track.index if heard.track.index in usable or not usable else usable[0]


def _whole(
    found: Survey,
    heard: Heard,
    limits: MediaLimits,
    *,
    video_track: int | None = None,
    notes: list[str] | None = None,
) -> Iterator[Piece]:
    """Gapless pieces of all parts, each behind the one before."""
    _check_length(found, heard, limits)
    told = [*heard.notes, *found.glued_notes()]
    passed_s = 0.0
    for number, source in enumerate(found.sources):
        index, mended = _track_of(source, heard), Mended()
        if not source.usable("audio"):
            continue
        clock, start_s, length_s = source.clock(index), None, None
        if not found.sound_only and source.usable("video"):
            timing = recording_clock(found.path, source, video_track)
            clock, start_s, length_s = timing.clock, timing.start_s, timing.length_s
        pieces = place(decode_sound(found, source, index, clock, mended), start_s, mended)
        is_last = number == len(found.sources) - 1
        yield from pieces if is_last or length_s is None else _of_length(pieces, length_s)
        told += _told(mended, clock.jumps, passed_s)
        passed_s += length_s or clock.length_s
    if notes is not None:
        notes += told


def _of_length(pieces: Iterator[Piece], length_s: float) -> Iterator[Piece]:
    """Pieces cut or followed by silence to last exactly so long."""
    left_s, last = length_s, None
    for piece in pieces:
        num_left = round(left_s * piece.sample_rate)
        last = Piece(None, piece.samples[:, :num_left], piece.sample_rate)
        left_s -= last.length_s
        if num_left:
            yield last
    if last is not None and (num_left := round(left_s * last.sample_rate)) > 0:
        yield Piece(None, np.zeros((last.samples.shape[0], num_left), np.float32), last.sample_rate)


def _told(mended: Mended, jumps, passed_s: float) -> Iterator[str]:
    """What was mended in a part, in words."""
    for jump in jumps:
        yield f"time stamps jump ahead by {jump.cut_s:.1f} s more than anybody pauses; the jump is cut to 1 s"
    if mended.holes:
        at_s, total_s = mended.holes[0][0] + passed_s, sum(length for _, length in mended.holes)
        yield f"sound: {len(mended.holes)} holes, the first at {at_s:.2f} s, filled with {total_s:.2f} s of silence"
    if mended.overlaps:
        at_s, total_s = mended.overlaps[0][0] + passed_s, sum(length for _, length in mended.overlaps)
        places = f"{len(mended.overlaps)} places, the first at {at_s:.2f} s"
        yield f"sound: {total_s:.2f} s are stamped twice and left out, in {places}"
    if abs(mended.drift_s) > 0.03:
        yield f"sound: its clock is {abs(mended.drift_s):.2f} s {'fast' if mended.drift_s > 0 else 'slow'}; mended"
    if mended.num_damaged:
        yield f"sound: {mended.num_damaged} packets are damaged and left out"


def _check_length(found: Survey, heard: Heard, limits: MediaLimits) -> None:
    """Refuse sound without pictures that is too long by its stamps, before it is decoded.

    What pictures cut away of their sound is only known in reading.
    """
    length_s = sum(source.clock(_track_of(source, heard)).length_s for source in found.sources)
    is_cut = not found.sound_only and any(source.usable("video") for source in found.sources)
    if length_s > limits.max_duration_s and not is_cut:
        raise _too_long(found.path, limits, f"{length_s:.0f} s")


def _too_long(path: Path, limits: MediaLimits, got: str) -> MediaError:
    return MediaError(f"sound of {path}", f"at most {limits.max_duration_s:.0f} s", got, "cut it to the part you need")


def _limited(path: Path, chunks: Iterator[np.ndarray], sample_rate: int, limits: MediaLimits) -> Iterator[np.ndarray]:
    num_samples = 0
    for samples in chunks:
        num_samples += samples.shape[1]
        if num_samples > limits.max_duration_s * sample_rate:
            raise _too_long(path, limits, "more")
        yield samples
    if not num_samples:
        raise _empty(path)


def _empty(path: Path) -> MediaError:
    return MediaError(f"sound of {path}", "samples", "an empty sound track", "record or export it again")
