"""First pass over a recording: tracks the face and measures what the quality report needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.ndimage import maximum_filter1d

from m2dao.capture.faces.covering import covered_share, face_patch, glare_share, is_frontal
from m2dao.capture.faces.journal import RememberingTracker
from m2dao.capture.faces.tracker import FaceObservation, FaceTracker
from m2dao.capture.prefetch import in_turn, prefetch
from m2dao.errors import CaptureRejected
from m2dao.media.container import MediaLimits
from m2dao.media.video import Frame, VideoInfo, read_frames
from m2dao.timeline import FRAME_RATE

TRACKING_SIDE = 1280  # longest side the tracker looks at; the landmark model itself sees 256 px of the face
THUMB_SIZE = (48, 48)
MAX_SAMPLES = 40
FACE_PATCH_SIDE = 128
# A repeated picture: grey levels of the small picture, and as a share of the largest change near it.
_REPEATED_LEVELS, _REPEATED_OF_NEAR, _NEAR = 0.15, 0.25, 9
_SAME_TIME_S = 1e-6
PIECE_FRAMES = 4 * FRAME_RATE  # judged while the recording is still being read
LOOK_EVERY = 5  # frames between two measurements of sharpness and brightness


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """What the first pass found in T frames. Pixels are those of the shown picture, width x height.

    Attributes:
        landmarks: float32 [T, 478, 3] px; interpolated where not `valid`.
        blendshapes: float32 [T, 52]; likewise.
        valid: bool [T], a face was found.
        num_faces: int [T], faces counted; -1 where they were not.
        change: float32 [T], mean grey-level change of a small picture against the frame before; 0 for the first.
        median_change: float32 [T], the same as a median: it tells another scene from a person who has moved.
        source_times_s: float64 [T] of the stored frames that were chosen.
        sharpness: float32 [T], variance of the Laplacian over the face at 128 px; nan where not measured.
        brightness: float32 [T, 3], 5th, 50th and 95th percentile of the face's luma 0..255; nan likewise.
        covered: float32 [T], the largest part of the face that looks unlike itself, 0..1; nan likewise, and where the
            face is turned away.
        glare: float32 [T], the largest part before the eyes that is far too bright; nan likewise.
        samples: frames spread over the recording, (index, uint8 [h, w, 3]), at tracking size.
    """

    width: int
    height: int
    landmarks: np.ndarray
    blendshapes: np.ndarray
    valid: np.ndarray
    num_faces: np.ndarray
    change: np.ndarray
    median_change: np.ndarray
    source_times_s: np.ndarray
    sharpness: np.ndarray
    brightness: np.ndarray
    covered: np.ndarray
    glare: np.ndarray
    samples: list[tuple[int, np.ndarray]]

    @property
    def num_frames(self) -> int:
        return len(self.valid)

    @property
    def fresh(self) -> np.ndarray:
        """bool [T]: frames that show another picture than the one before.

        The same picture may have been chosen twice, or stored twice; stored again it differs by what coding does.
        """
        new = np.diff(self.source_times_s, prepend=-1.0) > _SAME_TIME_S
        near = maximum_filter1d(self.change, _NEAR)
        repeated = (self.change < _REPEATED_LEVELS) & (self.change < _REPEATED_OF_NEAR * near)
        repeated[:1] = False
        return new & ~repeated

    def cut_to(self, num_frames: int) -> Tracks:
        """The first `num_frames` frames."""
        per_frame: dict[str, Any] = {
            name: value[:num_frames] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        samples = [sample for sample in self.samples if sample[0] < num_frames]
        return dataclasses.replace(self, **per_frame, samples=samples)


def track_recording(
    path: Path,
    info: VideoInfo,
    trackers: Sequence[FaceTracker],
    *,
    journals: Path,
    limits: MediaLimits,
    on_frame: Callable[[int, bool], None],
    on_piece: Callable[[int, Tracks], None],
    notes: list[str],
) -> Tracks:
    """Follow the face through the whole recording, in memory that does not hold its pictures.

    Args:
        trackers: each follows the face in every n-th frame, in a thread of its own: the square a face is looked for in
            leaves room for what it moves within two frames.
        on_frame: called with the number of frames done, and whether the last of them shows a face; may raise what rules
            the recording out.
        on_piece: called every second with the number of a frame and the tracks from there to the last face, of four
            seconds at most; may raise likewise.
        notes: takes what the reader of the pictures has to tell.
        journals: folder where their findings are kept; those that lie there already are not made again.

    Raises:
        MediaError: the recording does not decode to its end.
        CaptureRejected: no face anywhere.
    """
    collected = _Collector(info)
    with ExitStack() as stack:
        follow = [
            stack.enter_context(closing(RememberingTracker(tracker, journals / f"faces-{number}.f32")))
            for number, tracker in enumerate(trackers)
        ]
        frames = stack.enter_context(
            closing(prefetch(read_frames(path, max_side=TRACKING_SIDE, limits=limits, track=info.index, notes=notes)))
        )
        with closing(in_turn(follow, frames)) as followed:
            for frame, found in followed:
                collected.add(frame, found)
                on_frame(frame.index + 1, found is not None)
                if frame.index % FRAME_RATE == FRAME_RATE - 1:
                    collected.tell_latest(on_piece)
    return collected.finish()


class _Collector:
    """Gathers per-frame results and a bounded number of sample frames."""

    def __init__(self, info: VideoInfo):
        self._info = info
        self._scale = 1.0
        self.valid: list[bool] = []
        self._landmarks: list[np.ndarray | None] = []
        self._blendshapes: list[np.ndarray | None] = []
        self._num_faces: list[int] = []
        self._change: list[tuple[float, float]] = []
        self._times: list[float] = []
        self._sharpness: list[float] = []
        self._brightness: list[np.ndarray] = []
        self._patches: dict[int, np.ndarray] = {}
        self._last_thumb: np.ndarray | None = None
        self._samples: list[tuple[int, np.ndarray]] = []
        self._stride = 5

    def add(self, frame: Frame, found: FaceObservation | None) -> None:
        self._scale = self._info.width / frame.rgb.shape[1]
        self.valid.append(found is not None)
        self._landmarks.append(None if found is None else found.landmarks * np.float32(self._scale))
        self._blendshapes.append(None if found is None else found.blendshapes)
        self._num_faces.append(-1 if found is None or found.num_faces is None else found.num_faces)
        self._times.append(frame.source_time_s)
        thumb = cv2.resize(cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY), THUMB_SIZE, interpolation=cv2.INTER_AREA)
        thumb = thumb.astype(np.float32)
        moved = np.abs(thumb - thumb if self._last_thumb is None else thumb - self._last_thumb)
        self._change.append((float(moved.mean()), float(np.median(moved))))
        self._last_thumb = thumb
        if found is None or frame.index % LOOK_EVERY:
            sharpness, brightness = np.nan, np.full(3, np.nan)
        else:
            sharpness, brightness = _look_of(frame.rgb, found.box)
            if is_frontal(found.landmarks):
                self._patches[frame.index] = face_patch(frame.rgb, found.landmarks)
        self._sharpness.append(sharpness)
        self._brightness.append(brightness)
        if found is not None and frame.index % self._stride == 0:
            self._samples.append((frame.index, frame.rgb))
            if len(self._samples) > MAX_SAMPLES:
                self._stride *= 2
                self._samples = [sample for sample in self._samples if sample[0] % self._stride == 0]

    def tell_latest(self, on_piece: Callable[[int, Tracks], None]) -> None:
        """Give away the tracks of the last four seconds, from a face to a face; their samples are left out."""
        begin = max(len(self.valid) - PIECE_FRAMES, 0)
        seen = begin + np.flatnonzero(self.valid[begin:])
        if len(seen):
            first = int(seen[0]) if begin else 0
            on_piece(first, self._tracks(first, int(seen[-1]) + 1))

    def finish(self) -> Tracks:
        if not any(self.valid):
            raise CaptureRejected(
                str(self._info.path),
                "a face",
                f"none in {len(self.valid)} frames",
                "film the face from the front, upright and at least a tenth of the picture's height",
            )
        return dataclasses.replace(self._tracks(0, len(self.valid)), samples=self._samples)

    def _tracks(self, first: int, end: int) -> Tracks:
        """Of the frames from ``first`` to before ``end``, without samples."""
        part = slice(first, end)
        valid = np.array(self.valid[part], bool)
        covered, glare = np.full((2, len(valid)), np.nan, np.float32)
        looked = [index for index in self._patches if first <= index < end]
        if looked:
            patches = np.stack([self._patches[index] for index in looked])
            rows = np.array(looked) - first
            covered[rows], glare[rows] = covered_share(patches), glare_share(patches)
        change = np.array(self._change[part], np.float32)
        return Tracks(
            width=self._info.width,
            height=self._info.height,
            landmarks=_interpolated(self._landmarks[part], valid),
            blendshapes=_interpolated(self._blendshapes[part], valid),
            valid=valid,
            num_faces=np.array(self._num_faces[part]),
            change=change[:, 0],
            median_change=change[:, 1],
            source_times_s=np.array(self._times[part]),
            sharpness=np.array(self._sharpness[part], np.float32),
            brightness=np.array(self._brightness[part], np.float32),
            covered=covered,
            glare=glare,
            samples=[],
        )


def _interpolated(rows: list[np.ndarray | None], valid: np.ndarray) -> np.ndarray:
    """[T, ...] with straight lines across the gaps, constant before and after the valid rows."""
    seen = np.flatnonzero(valid)
    filled = np.empty((len(rows), *rows[seen[0]].shape), np.float32)
    for index in seen:
        filled[index] = rows[index]
    for index in np.flatnonzero(~valid):
        after = int(np.searchsorted(seen, index))
        left, right = seen[max(after - 1, 0)], seen[min(after, len(seen) - 1)]
        weight = 0.0 if left == right else (index - left) / (right - left)
        filled[index] = (1 - weight) * rows[left] + weight * rows[right]
    return filled


def _look_of(rgb: np.ndarray, box: tuple[float, float, float, float]) -> tuple[float, np.ndarray]:
    """Sharpness and luma percentiles of the face inside `box`."""
    x0, y0, x1, y1 = (round(value) for value in box)
    patch = rgb[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    if min(patch.shape[:2]) < 8:
        return np.nan, np.full(3, np.nan)
    grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, (FACE_PATCH_SIDE, FACE_PATCH_SIDE), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var()), np.percentile(grey, [5, 50, 95])
