"""Chooses frames: models for the seeds, the seconds worth decoding, one for each step.

A fit of a minute sees no more than a thousand frames; decoding others would cost time and teach nothing. One-second
segments are chosen one by one: each is the one least like those before in sound, mouth and view, and rather one with
moving lips. A good few seconds can stand for minutes (ISExplore, 2025).
Shapes: T frames, M segments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m2dao.audio.phones import posteriors_of
from m2dao.capture.cameras.solve import away_from_median
from m2dao.capture.dataset import Capture
from m2dao.motion.poses import POSE_WEIGHTS, pose_differences
from m2dao.timeline import FRAME_RATE

SEGMENT_FRAMES = FRAME_RATE
_WEIGHTS = {"sound": 1.0, "mouth": 1.0, "view": 1.0}  # of each kind in the distance between segments
_MAX_SKIPPED_SHARE = 0.05  # of the frames; more than that is not the frames' fault
_REPEATED_SHARE = 0.1  # of an epoch; who looks down for a third of a recording needs no more of that
_WINDOW_SHARE = 0.2  # of the frames, in a window over the openings of lips
_LIVELY = 0.5  # what a segment with the stillest lips counts against one with the liveliest


@dataclass(frozen=True, kw_only=True)
class ReferenceFrames:
    """The frames that serve as models for seeding."""

    neutral: int  # pose nearest to the median, eyes open, mouth nearly closed
    widest: int  # mouth widest open


def choose_reference_frames(capture: Capture, num_train: int) -> ReferenceFrames:
    """Pick them among the first ``num_train`` frames."""
    valid = capture.valid[:num_train].astype(bool)
    viewmats = capture.viewmats[:num_train]
    away = away_from_median(viewmats, viewmats)
    spread = np.median(away) + 1e-6
    lips = capture.lip_opening[:num_train]
    cost = away / spread + 4 * capture.blink[:num_train].max(axis=1) + 4 * lips / (lips.max() + 1e-6)
    cost = np.where(valid, cost, np.inf)
    opening = np.where(valid, lips - 0.02 * away / spread, -np.inf)
    return ReferenceFrames(neutral=int(cost.argmin()), widest=int(opening.argmax()))


def choose_frames(capture: Capture, num_train: int, max_frames: int, always: tuple[int, ...] = ()) -> np.ndarray:
    """Frames of the most informative segments.

    Args:
        capture: an open capture.
        num_train: the first frames may be chosen from.
        max_frames: about how many; all of them if there are no more.
        always: frames that must be among them.

    Returns:
        Indices in rising order.
    """
    if max_frames >= num_train:
        return np.arange(num_train)
    starts = np.arange(0, num_train - SEGMENT_FRAMES + 1, SEGMENT_FRAMES)
    parts = [slice(start, start + SEGMENT_FRAMES) for start in starts]
    usable = np.array([capture.valid[part].mean() > 0.5 for part in parts])
    kinds = _descriptions(capture, parts)
    lively = np.array([np.ptp(capture.lip_opening[part]) for part in parts])
    lively = _LIVELY + (1 - _LIVELY) * lively / max(float(lively.max()), 1e-6)
    chosen = [int(np.where(usable, lively, -1).argmax())]
    distance = np.full(len(parts), np.inf)
    while len(chosen) < min(int(usable.sum()), max(1, max_frames // SEGMENT_FRAMES)):
        distance = np.minimum(distance, np.square(kinds - kinds[chosen[-1]]).sum(axis=1))
        score = np.where(usable, lively * distance, -1.0)
        score[chosen] = -1.0
        chosen.append(int(score.argmax()))
    frames = {int(starts[number]) + offset for number in chosen for offset in range(SEGMENT_FRAMES)}
    return np.array(sorted(frames | set(always)))


def _descriptions(capture: Capture, parts: list[slice]) -> np.ndarray:
    """Sound, lips and head pose of each segment: [M, .], each kind of spread one."""
    phones = posteriors_of(capture.feature("phones"))
    per_frame = len(phones) // capture.num_frames
    poses = pose_differences(capture.viewmats, capture.viewmats[0]) * POSE_WEIGHTS
    lips = np.stack([capture.lip_opening, capture.lip_width], axis=1)
    kinds = {
        "sound": [phones[part.start * per_frame : part.stop * per_frame].mean(0) for part in parts],
        "mouth": [np.concatenate([lips[part].mean(0), lips[part].std(0)]) for part in parts],
        "view": [np.concatenate([poses[part].mean(0), poses[part].std(0)]) for part in parts],
    }
    scaled = []
    for name, values in kinds.items():
        centered = np.stack(values) - np.mean(values, axis=0)
        scaled.append(_WEIGHTS[name] * centered / max(float(np.sqrt(np.square(centered).sum(axis=1).mean())), 1e-9))
    return np.concatenate(scaled, axis=1)


class FrameOrder:
    """Every usable frame in each epoch, some repeatedly, in an order of seed and epoch alone.

    Args:
        usable: indices of frames with a face.
        repeated: those of them that come up more often, because there are few of them.
        repeats: how often these come up in an epoch, at most; not so often that they make up more than a tenth of it.
        seed: of the order.
        opening: [T] of the lips in all frames of the recording; needed for windows of frames only.
    """

    def __init__(
        self, usable: np.ndarray, repeated: np.ndarray, repeats: int, seed: int, opening: np.ndarray | None = None
    ):
        self._by_opening = usable if opening is None else usable[np.argsort(opening[usable], kind="stable")]
        self.skipped: set[int] = set()
        others = len(usable) - len(repeated)
        most = _REPEATED_SHARE / (1 - _REPEATED_SHARE) * others / max(1, len(repeated))
        self._frames = np.concatenate([usable, *[repeated] * (min(repeats, int(most)) - 1)])
        self._max_skipped = min(max(3, int(_MAX_SKIPPED_SHARE * len(usable))), len(usable) - 1)  # one must be left
        self._seed, self._epoch = seed, -1

    def frame_of(self, step: int) -> int:
        """The frame of a step; in place of a skipped one, the next in the epoch that is not."""
        epoch, position = divmod(step, len(self._frames))
        if self._epoch != epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch]).permutation(self._frames)
        while int(self._order[position]) in self.skipped:
            position = (position + 1) % len(self._order)
        return int(self._order[position])

    def frame_in_window(self, step: int, rise: float) -> int:
        """The frame of a step out of a window over the frames by the opening of their lips.

        Args:
            step: the step, which alone decides within the window.
            rise: 0 for the most closed fifth of the frames, 1 for the most open one.
        """
        frames = [int(index) for index in self._by_opening if int(index) not in self.skipped]
        size = max(1, round(_WINDOW_SHARE * len(frames)))
        first = round(rise * (len(frames) - size))
        return frames[first + int(np.random.default_rng([self._seed, step, 1]).integers(size))]

    def skip(self, index: int) -> bool:
        """Leave a frame out from now on; False if there are too many of them to go on."""
        self.skipped.add(index)
        return len(self.skipped) <= self._max_skipped
