"""Head poses, blinks and brows for speech of any length, from what the person did in the recording.

The recording's own motion is cut into stretches of a few seconds and joined where pose, speed and lids nearly meet; each
joint is cross-faded. So motion keeps the person's own rhythm, never ends, never jumps and has no period that can be seen.
Shapes: T frames of the recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from m2dao.timeline import FRAME_RATE

_FADE_FRAMES = 16
_SHORTEST_S, _LONGEST_S = 2.5, 7.0
_NUM_CANDIDATES = 256
_POSE_WEIGHTS = np.array([40.0, 40.0, 40.0, 60.0, 60.0, 60.0])  # radians and metres to comparable costs
_VELOCITY_WEIGHT = 4.0
_BLINK_WEIGHT = 3.0
_LEAP, _LEAP_OF_USUAL = 1.0, 6.0  # a step this large, and this much larger than usual, is a cut


class Performance(NamedTuple):
    """One frame of synthesised motion."""

    pose: np.ndarray  # [6] rotation vector and translation relative to the reference pose
    slow_pose: np.ndarray  # [6]
    expression: np.ndarray  # [E]


def perform(
    poses: np.ndarray, slow_poses: np.ndarray, expression: np.ndarray, *, seed: int, start: int = 0
) -> Iterator[Performance]:
    """Endless motion.

    Args:
        poses: [T, 6] rotation vector (radians) and translation (metres).
        slow_poses: [T, 6] the same, low-passed.
        expression: [T, E]; the first two entries are the lids (1 closed).
        seed: chooses the stretches.
        start: first frame of the recording to play.
    """
    tracks = np.concatenate([poses, slow_poses, expression], axis=1)
    room = _frames_before_jump(poses)
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


def _frames_before_jump(poses: np.ndarray) -> np.ndarray:
    """How many frames from each one on follow each other without a cut: [T] int, at least 1.

    A recording may have been cut; the head then leaps from one frame to the next, which no motion of ours may do.
    """
    step = np.linalg.norm(np.diff(poses, axis=0) * _POSE_WEIGHTS, axis=1)
    leaps = step > max(_LEAP, _LEAP_OF_USUAL * np.percentile(step, 95))
    room = np.ones(len(poses), int)
    for index in range(len(poses) - 2, -1, -1):
        room[index] = 1 if leaps[index] else room[index + 1] + 1
    return room


def _next_start(poses, velocity, expression, end: int, starts: np.ndarray, rng) -> int:
    """Where to go on: the candidate that is nearest in pose, speed and lids, away from where we are."""
    candidates = rng.choice(starts, size=_NUM_CANDIDATES)
    apart = np.abs(candidates - end) > FRAME_RATE
    if apart.any():
        candidates = candidates[apart]
    cost = np.linalg.norm((poses[candidates] - poses[end]) * _POSE_WEIGHTS, axis=1)
    cost += _VELOCITY_WEIGHT * np.linalg.norm((velocity[candidates] - velocity[end]) * _POSE_WEIGHTS, axis=1)
    cost += _BLINK_WEIGHT * np.abs(expression[candidates, :2] - expression[end, :2]).sum(axis=1)
    best = np.argsort(cost, kind="stable")[:4]  # not always the same one: no loops
    return int(candidates[rng.choice(best)])


def _split(row: np.ndarray) -> Performance:
    return Performance(row[:6], row[6:12], row[12:])
