"""Second pass over a recording: cuts, segments and stores every frame, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np

from m2dao.capture.crop import Crop
from m2dao.capture.faces.tracking import Tracks
from m2dao.capture.prefetch import in_turn, prefetch
from m2dao.capture.regions.plate import PlateBuilder
from m2dao.capture.regions.segment import RegionSegmenter
from m2dao.capture.writer import CaptureWriter
from m2dao.media.container import MediaLimits
from m2dao.media.video import VideoInfo, read_frames
from m2dao.timeline import split_recording

NUM_WORKERS = 2
NUM_PLATE_FRAMES = 250  # spread over the recording


def cut_and_store(
    info: VideoInfo,
    tracks: Tracks,
    landmarks: np.ndarray,
    crop: Crop,
    writer: CaptureWriter,
    *,
    limits: MediaLimits,
    on_frame: Callable[[int], None],
) -> np.ndarray:
    """Store frames and masks of the whole recording.

    Workers have one segmenter and its twins, so which worker gets a frame makes no difference to its masks.

    Args:
        landmarks: float32 [T, 478, 3], px of the crop.
        on_frame: called with the number of frames done.

    Returns:
        The background plate, uint8 [S, S, 3].
    """
    segmenter = RegionSegmenter()
    learned_from = split_recording(tracks.num_frames).train  # colours of the other parts stay unseen
    for index, rgb in tracks.samples:
        if index in learned_from:
            segmenter.observe(crop.cut(rgb), landmarks[index])
    segmenters = [segmenter, *(segmenter.twin() for _ in range(NUM_WORKERS - 1))]
    workers = [_Cutter(each, writer, landmarks) for each in segmenters]
    plate = PlateBuilder()
    stride = max(1, tracks.num_frames // NUM_PLATE_FRAMES)
    source = read_frames(info.path, max_side=crop.decode_side(), limits=limits, track=info.index)
    with (
        closing(prefetch(_squares(source, crop, tracks.num_frames), depth=4)) as squares,
        closing(in_turn(workers, squares)) as finished,
    ):
        for (index, rgb), masks in finished:
            if index % stride == 0:
                plate.add(rgb, masks)
            on_frame(index + 1)
    return plate.finish()


class _Cutter:
    """Cuts one frame after another into regions and stores it."""

    def __init__(self, segmenter: RegionSegmenter, writer: CaptureWriter, landmarks: np.ndarray):
        self._segmenter, self._writer, self._landmarks = segmenter, writer, landmarks

    def __call__(self, square: tuple[int, np.ndarray]) -> np.ndarray:
        index, rgb = square
        if self._writer.adopt_frame(index):  # of a run that was killed
            return self._writer.masks(index)
        masks = self._segmenter.segment(rgb, self._landmarks[index])
        self._writer.add_frame(index, rgb, masks)
        return masks


def _squares(source, crop: Crop, num_frames: int) -> Iterator[tuple[int, np.ndarray]]:
    """Index and square of the first `num_frames` frames."""
    for frame in source:
        if frame.index >= num_frames:
            return
        yield frame.index, crop.cut(frame.rgb)
