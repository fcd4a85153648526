"""Synthesises head poses, blinks, brows and gaze for speech of any length.

We cut the recording's own motion into stretches of a few seconds, and join them where pose, speed and lids nearly meet.
Each joint is cross-faded. So motion keeps the person's own rhythm, never ends, never jumps and has no visible period.
Shapes: T frames of the recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from m2dao.motion.poses import POSE_WEIGHTS, pose_features, viewmat_from_difference
from m2dao.motion.talking_head import FrameConditions
from m2dao.timeline import FRAME_RATE

_FADE_FRAMES = 16
_SHORTEST_S, _LONGEST_S = 2.5, 7.0
_NUM_CANDIDATES = 256
_VELOCITY_WEIGHT = 4.0
_BLINK_WEIGHT = 3.0


class Performance(NamedTuple):
    """One frame of synthesised motion."""

    pose: np.ndarray  # [6] rotation vector and translation relative to the reference pose
    slow_pose: np.ndarray  # [6]
    expression: np.ndarray  # [E]


def next_frames(motion: Iterator[Performance], embeddings: Tensor, reference_viewmat: Tensor) -> FrameConditions:
    """What drives the next frames, all at once: one by one it would take longer than posing them.

    Args:
        motion: of the head, from :func:`perform`.
        embeddings: [B, D] of the sound, one a frame.
        reference_viewmat: [4, 4] the pose that motion is relative to.
    """
    poses, slow_poses, expressions = map(np.stack, zip(*islice(motion, len(embeddings)), strict=True))
    return FrameConditions(
        viewmat=viewmat_from_difference(poses, reference_viewmat),
        pose=pose_features(poses, slow_poses),
        audio=embeddings,
        expression=torch.from_numpy(expressions).float(),
    )


def perform(
    poses: np.ndarray,
    slow_poses: np.ndarray,
    expression: np.ndarray,
    cuts: np.ndarray,
    *,
    seed: int,
    start: int = 0,
) -> Iterator[Performance]:
    """Endless motion.

    Args:
        poses: [T, 6] rotation vector (radians) and translation (metres).
        slow_poses: [T, 6] the same, low-passed.
        expression: [T, E]; the first two entries are the lids (1 closed).
        cuts: [C] frames that do not continue the one before; they are never played after it.
        seed: chooses the stretches.
        start: first frame of the recording to play.
    """
    tracks = np.concatenate([poses, slow_poses, expression], axis=1)
    room = _frames_left_in_shot(cuts, len(poses))
    fade = min(_FADE_FRAMES, max(2, int(room.max()) // 4))
    starts = np.flatnonzero(room > 2 * fade + 1)  # after a fade at least one more must fit
    rng = np.random.default_rng(seed)
    velocity = np.gradient(poses, axis=0)
    position = int(starts[np.abs(starts - start).argmin()])
    while True:
        length = int(rng.uniform(_SHORTEST_S, _LONGEST_S) * FRAME_RATE)
        end = position + min(length, int(room[position]) - fade)  # the cross-fade needs `fade` further frames
        for index in range(position, end):
            yield _split(tracks[index])
        target = _next_start(poses, velocity, expression, end, starts, rng)
        for step in range(fade):
            ratio = (step + 1) / (fade + 1)
            weight = ratio * ratio * (3 - 2 * ratio)
            yield _split((1 - weight) * tracks[end + step] + weight * tracks[target + step])
        position = target + fade


def _frames_left_in_shot(cuts: np.ndarray, num_frames: int) -> np.ndarray:
    """How many frames, itself included, follow each one without a cut: [T] int."""
    frames, ends = np.arange(num_frames), np.append(np.sort(cuts), num_frames)
    return ends[np.searchsorted(ends, frames, side="right")] - frames


def _next_start(poses, velocity, expression, end: int, starts: np.ndarray, rng) -> int:
    """Where to go on: the candidate that is nearest in pose, speed and lids, away from where we are."""
    candidates = rng.choice(starts, size=_NUM_CANDIDATES)
    apart = np.abs(candidates - end) > FRAME_RATE
    if apart.any():
        candidates = candidates[apart]
    cost = np.linalg.norm((poses[candidates] - poses[end]) * POSE_WEIGHTS, axis=1)
    cost += _VELOCITY_WEIGHT * np.linalg.norm((velocity[candidates] - velocity[end]) * POSE_WEIGHTS, axis=1)
    cost += _BLINK_WEIGHT * np.abs(expression[candidates, :2] - expression[end, :2]).sum(axis=1)
    best = np.argsort(cost, kind="stable")[:4]  # not always the same one: no loops
    return int(candidates[rng.choice(best)])


def _split(row: np.ndarray) -> Performance:
    return Performance(row[:6], row[6:12], row[12:])
