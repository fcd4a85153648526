"""Which part of a recording a short fit looks at.

A fit of a minute sees no more than a thousand frames; decoding others would cost time and teach nothing. One-second segments
are chosen one by one, each the one least like those chosen before in sound, mouth and view, and rather one with moving lips:
a good few seconds can stand for minutes (ISExplore, 2025).
Shapes: T frames, M segments.
"""

from __future__ import annotations

import numpy as np

from m2dao.audio.phones import posteriors_of
from m2dao.capture.dataset import Capture
from m2dao.motion.poses import POSE_WEIGHTS, pose_differences
from m2dao.timeline import FRAME_RATE

SEGMENT_FRAMES = FRAME_RATE
_WEIGHTS = {"sound": 1.0, "mouth": 1.0, "view": 1.0}  # of each kind in the distance between segments
_LIVELY = 0.5  # what a segment with the stillest lips counts against one with the liveliest


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
    """What is heard, what the lips do and how the head stands in each segment: [M, .], each kind of spread one in all."""
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
