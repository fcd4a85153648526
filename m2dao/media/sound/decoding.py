"""Decodes one sound track of one part of a file into pieces of samples with the instants they are due."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import numpy as np

from m2dao.errors import MediaError
from m2dao.media.container import open_media, shown_at_s, sound_stream
from m2dao.media.packets import packets_of
from m2dao.media.sound.placing import Mended, Piece
from m2dao.media.survey.stamps import RESTART_S, Clock
from m2dao.media.survey.tracks import Source, Survey

MAX_DAMAGED_FRACTION = 0.05
MAX_COUNTED_PLANES = 8
_SCALES = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}


def decode_sound(found: Survey, source: Source, index: int, clock: Clock, mended: Mended) -> Iterator[Piece]:
    """All pieces of a track, on a clock; damage is counted in `mended`.

    Args:
        found: the file.
        source: the part of it.
        index: of the track.
        clock: of the part.
        mended: takes the count of damaged packets.

    Raises:
        MediaError: nothing decodes, too much is damaged, or an mp4 index promises more than there is.
    """
    num_good, decoded_s, span, last_s = 0, 0.0, 0, float("-inf")
    path = found.path
    with open_media(path, source.part, sound_only=found.sound_only) as container:
        stream = sound_stream(container, index)
        for frame in _frames(container, stream):
            if frame is None:
                mended.num_damaged += 1
                continue
            time_s = None
            if frame.pts is not None:
                stamp_s = float(shown_at_s(frame))
                span += stamp_s < last_s - RESTART_S
                time_s, last_s = clock.at_s(stamp_s, span), stamp_s
            num_good += 1
            samples = as_float(frame)
            decoded_s += samples.shape[1] / frame.sample_rate
            yield Piece(time_s, samples, frame.sample_rate)
        _check_whole(path, num_good, mended.num_damaged)
        _check_complete(container, stream, path, decoded_s)


def as_float(frame: av.AudioFrame) -> np.ndarray:
    """The samples of a frame as float32 [C, S], NaN as silence and infinity as full scale."""
    frame = _packed(frame)
    samples: np.ndarray = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    scale = _SCALES.get(frame.format.name.removesuffix("p"))
    if scale is None:
        return np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=1.0, neginf=-1.0)
    if samples.dtype == np.uint8:
        samples = samples.astype(np.float32) - np.float32(128.0)
    return samples.astype(np.float32) / np.float32(scale)


def _packed(frame: av.AudioFrame) -> av.AudioFrame:
    """The frame with all channels in one plane, where its planes cannot be counted.

    PyAV takes what lies in memory behind the list of more than eight planes for further ones.
    """
    if not frame.format.is_planar or frame.layout.nb_channels <= MAX_COUNTED_PLANES:
        return frame
    converter = av.AudioResampler(format=frame.format.packed, layout=frame.layout, rate=frame.sample_rate)
    return converter.resample(frame)[0]


def _frames(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame | None]:
    """Frames of a track; None for each packet that does not decode."""
    for packet in packets_of(container, stream):
        try:
            yield from packet.decode()
        except (av.error.InvalidDataError, av.error.PatchWelcomeError):
            yield None


def _check_whole(path: Path, num_good: int, num_damaged: int) -> None:
    if not num_good and num_damaged:
        raise MediaError(f"sound of {path}", "a sound track that decodes", "none that does", "export it again")
    if num_damaged > MAX_DAMAGED_FRACTION * (num_good + num_damaged):
        raise MediaError(
            f"sound of {path}",
            "an undamaged sound track",
            f"{num_damaged} damaged of {num_good + num_damaged} packets",
            "the file is truncated or damaged; export it again",
        )


def _check_complete(container, stream, path: Path, decoded_s: float) -> None:
    """Raise MediaError where an mp4 index promises clearly more sound than there is."""
    if "mp4" not in container.format.name or not stream.duration or not stream.index_entries:
        return
    declared_s = float(stream.duration * stream.time_base)
    indexed_s = max(entry.timestamp for entry in stream.index_entries) * float(stream.time_base)
    if decoded_s < 0.98 * min(declared_s, indexed_s) - 0.5:
        raise MediaError(
            f"sound of {path}",
            f"the {declared_s:.2f} s its header declares",
            f"sound for {decoded_s:.2f} s",
            "the file is truncated or damaged; copy or export it again",
        )
