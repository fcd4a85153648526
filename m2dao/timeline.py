"""One clock: frames, seconds and samples of a normalised recording.

Inside the engine all video is 25 frames per second and all sound 16,000 samples per second, so one frame is
exactly 640 samples. Frame ``i`` shows the instant ``i / 25`` seconds and owns the samples
``[640 * i, 640 * (i + 1))``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FRAME_RATE = 25  # frames per second
SAMPLE_RATE = 16_000  # samples per second
SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE


def num_frames_for_samples(num_samples: int) -> int:
    """Frames needed to cover ``num_samples`` samples; the last frame may be partly silent."""
    return -(-num_samples // SAMPLES_PER_FRAME)


def num_samples_for_frames(num_frames: int) -> int:
    """Samples spoken during ``num_frames`` frames."""
    return num_frames * SAMPLES_PER_FRAME


def runs_of(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and past-the-last frame of each run of True in [T]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


class Split(NamedTuple):
    """The parts of a recording, one after the other."""

    train: range  # what a fit learns from
    validation: range  # what all choices are made on
    test: range  # what is reported, once


JUDGED_PARTS = ("validation", "test")


def split_recording(num_frames: int) -> Split:
    """9/11 train, 1/11 validation, 1/11 test: the field's test part, and as much before it to choose by."""
    num_train, num_seen = num_frames * 9 // 11, num_frames * 10 // 11
    return Split(range(num_train), range(num_train, num_seen), range(num_seen, num_frames))
