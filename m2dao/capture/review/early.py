"""Refuses recordings during their first pass, as soon as nothing that follows can change that.

What is refused here is refused by `quality.check_faces` as well, which sees the whole recording.
"""

from __future__ import annotations

import numpy as np

from m2dao.capture.faces.tracking import Tracks
from m2dao.capture.review.cuts import Cuts, find_certain_cuts
from m2dao.capture.review.findings import clock
from m2dao.capture.review.quality import (
    QualityRules,
    frames_outside,
    gap,
    held_counts,
    refuse_cuts,
    refuse_several_faces,
)
from m2dao.errors import CaptureRejected
from m2dao.timeline import FRAME_RATE, runs_of


class LostFace:
    """Refuses a recording as soon as its face is gone for too long; is told of every frame in turn.

    Args:
        num_frames: that will be used; what comes after them does not count.
    """

    def __init__(self, name: str, num_frames: int, rules: QualityRules):
        self._name, self._num_frames, self._rules = name, num_frames, rules
        self._num_seen = self._num_missing = 0

    def __call__(self, frame: int, found: bool) -> None:
        """Take note of a frame.

        Raises:
            CaptureRejected: the face has come back after too long, or is gone for a second.
        """
        if frame >= self._num_frames:
            return
        lost = frame - self._num_missing
        self._num_missing = 0 if found else self._num_missing + 1
        self._num_seen += found
        if found and frame - lost > self._rules.max_gap_frames:
            raise gap(self._name, self._rules, f"no face in the picture from {clock(lost)} to {clock(frame)}")
        if self._num_missing < FRAME_RATE:
            return
        if self._num_seen:
            raise gap(self._name, self._rules, f"no face in the picture from {clock(lost)} on")
        raise CaptureRejected(
            self._name,
            "a face",
            f"none in the first {self._num_missing} frames",
            "film the face from the front, upright and at least a tenth of the picture's height",
        )


class EarlyReview:
    """Refuses a recording that was cut, shows several faces or one that leaves the picture.

    It is given the latest tracks every now and then, each time a little further; they may overlap.

    Args:
        num_frames: the most that will be used; what comes after them does not count.
    """

    def __init__(self, name: str, num_frames: int, rules: QualityRules):
        self._name, self._num_frames, self._rules = name, num_frames, rules
        self._cuts = Cuts(scenes=[], jumps=[])
        self._counts = np.zeros(0, np.int64)  # faces in the frames so far, as last counted

    def __call__(self, first: int, tracks: Tracks) -> None:
        """Judge tracks of the frames from ``first`` on.

        Raises:
            CaptureRejected: they cannot become a capture, whatever follows.
        """
        tracks = tracks.cut_to(max(self._num_frames - 1 - first, 0))  # the last may have no whole frame of sound
        if tracks.num_frames < 2:
            return
        self._count(first, tracks)
        refuse_several_faces(self._counts, self._num_frames, self._name, self._rules)
        found = find_certain_cuts(tracks, begins=first == 0)
        self._cuts = Cuts(
            scenes=sorted({*self._cuts.scenes, *(first + frame for frame in found.scenes)}),
            jumps=sorted({*self._cuts.jumps, *(first + frame for frame in found.jumps)}),
        )
        refuse_cuts(self._cuts, self._num_frames, self._name, self._rules)
        for start, end in runs_of(frames_outside(tracks, self._rules)):
            if end - start > self._rules.max_gap_frames:
                until = "on" if end == tracks.num_frames else f"to {clock(first + end)}"
                text = f"a face that leaves the picture from {clock(first + start)} {until}"
                raise gap(self._name, self._rules, text)

    def _count(self, first: int, tracks: Tracks) -> None:
        known = len(self._counts)
        fresh = tracks.num_faces[known - first :]
        before = self._counts[-1:]
        self._counts = np.concatenate([self._counts, held_counts(np.concatenate([before, fresh]))[len(before) :]])
