"""Finds where a recording was cut.

A cut differs from a quick turn of the head in what is around it: a head that turns is already fast in the frame before
and still in the frame after, while over a cut everything moves at once and nothing before or after.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m2dao.capture.faces.tracking import Tracks
from m2dao.regions import CHIN, FOREHEAD

_AROUND = 3  # pictures to either side that a step is compared with
_LEAST_STEP = 0.004  # in heights of the face: below, a tracker's noise
# Steps are mean ways of the landmarks in heights of the face, changes are grey levels of a small picture.
_JUMP_STEP, _JUMP_OF_NEIGHBOURS, _JUMP_CHANGE, _CHANGE_OF_NEIGHBOURS = 0.018, 3.8, 1.5, 2.5
_LEAP_STEP, _LEAP_OF_NEIGHBOURS = 0.25, 3.5
_SCENE_CHANGE, _SCENE_MEDIAN_CHANGE, _SCENE_OF_NEIGHBOURS = 20.0, 10.0, 3.0
_USUAL_STEP_S = 0.04
_APART = 2  # frames; closer cuts are one
_REACH = 5  # frames to either side that tell whether a picture repeats the one before


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """Frames that do not continue the one before.

    Attributes:
        scenes: another scene or a leap of the face; what is before and after does not belong together.
        jumps: the same scene with a piece taken out: the person is somewhere a little else. A fit can live with a few.
    """

    scenes: list[int]
    jumps: list[int]


def find_cuts(tracks: Tracks) -> Cuts:
    """Find cuts: picture and face move far more in one step than in any near it."""
    fresh = np.flatnonzero(tracks.fresh)  # repeated pictures do not move
    if len(fresh) < 3:
        return Cuts(scenes=[], jumps=[])
    change, median_change = tracks.change[fresh].astype(np.float64), tracks.median_change[fresh]
    step = _steps(tracks, fresh)
    step_around = np.maximum(_highest_around(step), _LEAST_STEP)
    change_around = _highest_around(change)
    scene = (change > _SCENE_CHANGE) & (median_change > _SCENE_MEDIAN_CHANGE)
    scene &= change > _SCENE_OF_NEIGHBOURS * change_around
    leap = (step > _LEAP_STEP) & (step > _LEAP_OF_NEIGHBOURS * step_around)
    jump = (step > _JUMP_STEP) & (step > _JUMP_OF_NEIGHBOURS * step_around)
    jump &= (change > _JUMP_CHANGE) & (change > _CHANGE_OF_NEIGHBOURS * change_around)
    scenes = _apart(fresh[scene | leap])
    return Cuts(scenes=scenes, jumps=[frame for frame in _apart(fresh[jump]) if frame not in scenes])


def find_certain_cuts(tracks: Tracks, *, begins: bool) -> Cuts:
    """Find the cuts in a piece of a recording that are found in the whole of it too.

    Args:
        tracks: of the piece.
        begins: whether the recording begins with it.
    """
    inside = np.zeros(tracks.num_frames, bool)
    inside[0 if begins else _REACH : max(tracks.num_frames - _REACH, 0)] = True  # what repeats is certain there
    fresh = np.flatnonzero(tracks.fresh & inside)
    certain = set(fresh[0 if begins else _AROUND + 1 + _APART : max(len(fresh) - _AROUND, 0)].tolist())
    found = find_cuts(tracks)
    return Cuts(
        scenes=[frame for frame in found.scenes if frame in certain],
        jumps=[frame for frame in found.jumps if frame in certain],
    )


def _steps(tracks: Tracks, fresh: np.ndarray) -> np.ndarray:
    """[N] way of the landmarks since the picture before, for the usual time between two of them."""
    points = tracks.landmarks[fresh, :, :2]
    heights = np.linalg.norm(points[:, CHIN] - points[:, FOREHEAD], axis=-1)
    steps = np.zeros(len(fresh))
    steps[1:] = np.linalg.norm(np.diff(points, axis=0), axis=-1).mean(1) / np.maximum(heights[1:], 1.0)
    since = np.diff(tracks.source_times_s, prepend=tracks.source_times_s[0] - _USUAL_STEP_S)[fresh]
    return steps / np.maximum(since / _USUAL_STEP_S, 1.0)


def _highest_around(values: np.ndarray) -> np.ndarray:
    """[N] the highest of each value's neighbours; the first value says nothing and does not count."""
    padded = np.pad(values, _AROUND)
    padded[_AROUND] = 0.0
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _AROUND + 1)
    return np.delete(windows, _AROUND, axis=1).max(axis=1)


def _apart(frames: np.ndarray) -> list[int]:
    """`frames` without the first of the recording and those right after their predecessor."""
    return [int(frame) for i, frame in enumerate(frames) if frame > 0 and (i == 0 or frame - frames[i - 1] > _APART)]
