"""Second pass over a recording: every frame cut to the square, divided into regions and stored, on all cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from m2dao.capture.crop import Crop
from m2dao.capture.plate import PlateBuilder
from m2dao.capture.prefetch import prefetch
from m2dao.capture.regions import RegionSegmenter
from m2dao.capture.tracking import Tracks
from m2dao.capture.writer import CaptureWriter
from m2dao.media.container import MediaLimits
from m2dao.media.video import read_frames

NUM_WORKERS = 2
WAITING_PER_WORKER = 3  # frames in memory
NUM_PLATE_FRAMES = 250  # spread over the recording


def cut_and_store(
    video: Path,
    tracks: Tracks,
    landmarks: np.ndarray,
    crop: Crop,
    writer: CaptureWriter,
    *,
    limits: MediaLimits,
    on_frame: Callable[[int], None],
) -> np.ndarray:
    """Store frames and masks of the whole recording.

    Each worker has a segmenter of its own, because the network inside keeps its buffers; all of them see the same
    sample frames, so which worker gets a frame makes no difference to its masks.

    Args:
        landmarks: float32 [T, 478, 3], px of the crop.
        on_frame: called with the number of frames done.

    Returns:
        The background plate, uint8 [S, S, 3].
    """
    samples = [(crop.cut(rgb), landmarks[index]) for index, rgb in tracks.samples]
    plate = PlateBuilder()
    stride = max(1, tracks.num_frames // NUM_PLATE_FRAMES)
    with ExitStack() as stack:
        pools = [stack.enter_context(ThreadPoolExecutor(1, "cutting")) for _ in range(NUM_WORKERS)]
        segmenters = [job.result() for job in [pool.submit(_segmenter, samples) for pool in pools]]
        waiting: deque[tuple[int, Future]] = deque()
        stack.callback(lambda: [job.cancel() for _, job in waiting])

        def settle() -> None:
            index, job = waiting.popleft()
            rgb, masks = job.result()
            if index % stride == 0:
                plate.add(rgb, masks)
            on_frame(index + 1)

        source = read_frames(video, max_side=crop.decode_side(), limits=limits)
        squares = stack.enter_context(closing(prefetch(_squares(source, crop, tracks.num_frames), depth=4)))
        for index, rgb in squares:
            worker = index % NUM_WORKERS
            job = pools[worker].submit(_cut, segmenters[worker], writer, index, rgb, landmarks[index])
            waiting.append((index, job))
            if len(waiting) >= NUM_WORKERS * WAITING_PER_WORKER:
                settle()
        while waiting:
            settle()
    return plate.finish()


def _segmenter(samples: list[tuple[np.ndarray, np.ndarray]]) -> RegionSegmenter:
    segmenter = RegionSegmenter()
    for rgb, landmarks in samples:
        segmenter.observe(rgb, landmarks)
    return segmenter


def _cut(
    segmenter: RegionSegmenter, writer: CaptureWriter, index: int, rgb: np.ndarray, landmarks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    masks = segmenter.segment(rgb, landmarks)
    writer.add_frame(index, rgb, masks)
    return rgb, masks


def _squares(source, crop: Crop, num_frames: int) -> Iterator[tuple[int, np.ndarray]]:
    """Index and square of the first `num_frames` frames."""
    for frame in source:
        if frame.index >= num_frames:
            return
        yield frame.index, crop.cut(frame.rgb)
