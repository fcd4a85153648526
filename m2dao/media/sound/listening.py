"""Chooses the sound track and the channels that are heard, by listening where headers do not tell."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m2dao.errors import MediaError
from m2dao.media.container import MediaLimits
from m2dao.media.sound.channels import SILENT_LEVEL, VOICED, Levels, Mix, choose_mix
from m2dao.media.sound.decoding import decode_sound
from m2dao.media.sound.placing import Mended, Piece
from m2dao.media.sound.resampling import Resampler
from m2dao.media.sound.voices import voice_share
from m2dao.media.survey.tracks import Survey, Track, survey
from m2dao.timeline import SAMPLE_RATE

MAX_LEVELS_S = 300.0  # of sound whose channels are compared
MAX_VOICE_S = 120.0  # of sound in which a voice is looked for
MAX_HEARD_SAMPLES = 16_000_000  # of all channels together
MUCH_MORE = 1.5  # a track that is not the first must hold so much more voice


@dataclass(frozen=True)
class Heard:
    """The sound that is used.

    Attributes:
        track: of the first part; parts glued behind it use their track of the same number.
        mix: which of its channels.
        notes: why, in words, where there was something to choose.
    """

    track: Track
    mix: Mix
    notes: tuple[str, ...] = ()


def choose_sound(
    path: Path | str, limits: MediaLimits, wanted: int | None = None, *, sound_only: bool = False, listen: bool = True
) -> Heard:
    """The track with the voice and the channels that hold it; unchanged files are not heard twice.

    Args:
        path: of the file.
        limits: of what is read.
        wanted: number of the track to use, if it was asked for.
        sound_only: touch no decoder of pictures.
        listen: choose channels too; where they are all wanted anyway, one track needs no listening. Nor does one
            track of one channel.

    Raises:
        MediaError: no track that can be used; says which there are.
    """
    status = Path(path).stat() if Path(path).is_file() else None
    changed = (status.st_size, status.st_mtime_ns, status.st_ino) if status else ()
    return _choose(Path(path), limits, wanted, sound_only, listen, *changed)


@functools.lru_cache(maxsize=16)
def _choose(
    path: Path, limits: MediaLimits, wanted: int | None, sound_only: bool, listen: bool, *_changed: int
) -> Heard:
    found = survey(path, sound_only=sound_only)
    choices = found.choices("audio", wanted)
    if wanted is None:
        within = [track for track in choices if not _beyond(track, limits)]
        choices = within or choices
    for track in choices:
        if (beyond := _beyond(track, limits)) is not None:
            raise MediaError(f"sound of {path}", *beyond)
    if len(choices) == 1 and (not listen or choices[0].num_channels == 1):
        mix = Mix(choices[0].num_channels, tuple(range(choices[0].num_channels)))
        return Heard(choices[0], mix, tuple(_notes(found, choices[0], {choices[0].index: mix}, "")))
    mixes = {track.index: _mix_of(found, track) for track in choices}
    chosen, reason = choices[0], ""
    if len(choices) > 1:
        chosen, reason = _by_voice(found, choices, mixes)
    return Heard(chosen, mixes[chosen.index], tuple(_notes(found, chosen, mixes, reason)))


def _beyond(track: Track, limits: MediaLimits) -> tuple[str, str, str] | None:
    """What a limit expected, what came, and the remedy."""
    if not limits.min_sample_rate <= track.sample_rate <= limits.max_sample_rate:
        expected = f"{limits.min_sample_rate} to {limits.max_sample_rate} samples per second"
        return expected, f"{track.sample_rate}", "record the sound again at 16000 or more"
    if track.num_channels > limits.max_channels:
        return f"at most {limits.max_channels} channels", f"{track.num_channels}", "mix it down"
    return None


def _mix_of(found: Survey, track: Track) -> Mix:
    """Which channels of a track to hear."""
    levels = Levels(max(track.num_channels, 1))
    for piece in _pieces(found, track, MAX_LEVELS_S):
        levels.add(piece.samples)
    longest_s = min(MAX_VOICE_S, MAX_HEARD_SAMPLES / (SAMPLE_RATE * levels.num_channels))

    def hear(channels: list[int]) -> np.ndarray:
        resamplers = [Resampler(SAMPLE_RATE) for _ in channels]
        heard: list[list[np.ndarray]] = [[np.zeros(0, np.float32)] for _ in channels]
        for piece in _pieces(found, track, longest_s):
            if piece.samples.shape[0] != levels.num_channels:
                continue
            for channel, resampler, waveform in zip(channels, resamplers, heard, strict=True):
                waveform += [
                    part[0] for part in resampler.push(piece.samples[channel : channel + 1], piece.sample_rate)
                ]
        joined = [np.concatenate(waveform) for waveform in heard]
        length = min(map(len, joined))
        return np.stack([waveform[:length] for waveform in joined])

    return choose_mix(levels, hear)


def _pieces(found: Survey, track: Track, longest_s: float) -> Iterator[Piece]:
    """Decoded sound of the first part, as much of it as is needed; damage is somebody else's to tell."""
    source, heard_s = found.sources[0], 0.0
    try:
        for piece in decode_sound(found, source, track.index, source.clock(track.index), Mended()):
            yield piece
            heard_s += piece.length_s
            if heard_s > longest_s:
                return
    except MediaError:
        return


def _by_voice(found: Survey, choices: list[Track], mixes: dict[int, Mix]) -> tuple[Track, str]:
    """The track with the voice, and why it is not the first."""
    loud = [track for track in choices if mixes[track.index].level > SILENT_LEVEL]
    if not loud:
        return choices[0], ""
    first = next((track for track in loud if track.is_default), loud[0])
    if len(loud) == 1:
        return loud[0], "" if loud[0] == choices[0] else "the others are silent"
    shares = {track.index: voice_share(_mono(found, track, mixes[track.index])) for track in loud}
    best = max(loud, key=lambda track: shares[track.index])
    if shares[best.index] > max(VOICED, MUCH_MORE * shares[first.index]):
        return best, "the voice is on it"
    return first, ""


def _mono(found: Survey, track: Track, mix: Mix) -> np.ndarray:
    resampler, heard = Resampler(SAMPLE_RATE), [np.zeros(0, np.float32)]
    for piece in _pieces(found, track, MAX_VOICE_S):
        heard += [part[0] for part in resampler.push(mix.mono(piece.samples)[None], piece.sample_rate)]
    return np.concatenate(heard)


def _notes(found: Survey, chosen: Track, mixes: dict[int, Mix], reason: str) -> Iterator[str]:
    others = [track for track in found.tracks if track.kind == "audio" and track != chosen]
    if others:
        silent = {index for index, mix in mixes.items() if mix.level <= SILENT_LEVEL}
        named = "; ".join(f"{track}{' is silent' if track.index in silent else ''}" for track in others)
        yield f"sound: {chosen} is used{f', {reason}' if reason else ''}; not used: {named}"
    mix = mixes[chosen.index]
    if mix.reason:
        numbers = ", ".join(str(number + 1) for number in mix.heard)
        yield f"sound: channel {numbers} of {mix.num_channels} is heard, because {mix.reason}"
