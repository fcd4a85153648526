"""Checks that a file is a video of somebody speaking, whatever the API says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from m2dao.errors import M2daoError, MediaError

FRAME_RATE = 25
MIN_MOTION = 0.15  # mean absolute difference of neighbouring frames in grey levels; compression noise alone is less
MIN_MOVING_SHARE = 0.5  # of all neighbouring frames
AV_TOLERANCE_S = 0.08  # two frames


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """What decoding the whole file tells."""

    num_frames: int
    width: int
    height: int
    frame_rate: Fraction
    audio_seconds: float
    audio_level: float  # root mean square, 0..1
    moving_share: float  # share of neighbouring frames that differ
    mean_motion: float  # grey levels


def look_at(path: Path) -> VideoFacts:
    """Decode all of a video and its sound.

    Raises:
        M2daoError: it cannot be decoded, or has no picture or no sound.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video or not container.streams.audio:
                raise M2daoError(str(path), "a video with sound", f"{len(container.streams)} streams")
            rate = container.streams.video[0].average_rate
            motion, before, size = [], None, (0, 0)
            for frame in container.decode(video=0):
                grey = frame.to_ndarray(format="gray").astype(np.int16)
                size = frame.width, frame.height
                if before is not None:
                    motion.append(float(np.abs(grey - before).mean()))
                before = grey
        with av.open(str(path)) as container:
            samples, energy, sound_rate = 0, 0.0, container.streams.audio[0].rate
            resampler = av.AudioResampler(format="flt", layout="mono", rate=sound_rate)
            for sound in container.decode(audio=0):
                for piece in resampler.resample(sound):
                    values = piece.to_ndarray()
                    samples += values.size
                    energy += float(np.square(values, dtype=np.float64).sum())
    except av.error.FFmpegError as error:
        raise M2daoError(str(path), "a video that decodes", str(error)) from error
    if before is None or not samples:
        raise M2daoError(str(path), "frames and sound", f"{len(motion)} frames, {samples} samples")
    return VideoFacts(
        num_frames=len(motion) + 1,
        width=size[0],
        height=size[1],
        frame_rate=Fraction(rate or 0),
        audio_seconds=samples / sound_rate,
        audio_level=math.sqrt(energy / samples),
        moving_share=sum(value > MIN_MOTION for value in motion) / max(len(motion), 1),
        mean_motion=sum(motion) / max(len(motion), 1),
    )


def audio_seconds(path: Path) -> float:
    """Length of a sound file by decoding it.

    Raises:
        MediaError: it cannot be decoded or has no sound.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise MediaError(str(path), "a file with sound", "none")
            stream = container.streams.audio[0]
            return float(sum(frame.samples for frame in container.decode(stream)) / Fraction(stream.rate))
    except av.error.FFmpegError as error:
        raise MediaError(str(path), "a sound file that decodes", str(error)) from error


def video_seconds(path: Path) -> float:
    """Length of a video as its container states it; 0 when it does not.

    Raises:
        MediaError: it is not a video.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError(str(path), "a video", "no picture")
            return (container.duration or 0) / 1_000_000
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(str(path), "a video", str(error)) from error


def problems_of(facts: VideoFacts, *, speech_seconds: float, size: int) -> list[str]:
    """What is wrong with a video that should show ``speech_seconds`` of speech; empty when nothing is."""
    expected = math.ceil(round(speech_seconds * FRAME_RATE, 3))
    found = []
    if abs(facts.num_frames - expected) > 1:  # the speech may have been resampled before it was counted
        found.append(f"{facts.num_frames} frames instead of {expected}")
    if facts.frame_rate != FRAME_RATE:
        found.append(f"{facts.frame_rate} frames per second instead of {FRAME_RATE}")
    if (facts.width, facts.height) != (size, size):
        found.append(f"{facts.width}x{facts.height} pixels instead of {size}x{size}")
    if abs(facts.audio_seconds - facts.num_frames / FRAME_RATE) > AV_TOLERANCE_S:
        found.append(f"{facts.audio_seconds:.2f} s of sound for {facts.num_frames / FRAME_RATE:.2f} s of picture")
    if facts.audio_level < 1e-3:
        found.append("the sound is silent")
    if facts.moving_share < MIN_MOVING_SHARE:
        found.append(f"the picture is frozen: only {facts.moving_share:.0%} of the frames differ from the one before")
    return found
