"""Gives an identity without a torso that of the training frame whose head pose is nearest.

Deploying a published baseline comes to this: it pastes recorded torsos, and for a pose that was not recorded the
nearest one is the best it has.
Shapes: S pixels a side.
"""

from __future__ import annotations

import functools

import numpy as np

from m2dao.capture.dataset import Capture
from m2dao.motion.poses import POSE_WEIGHTS, pose_differences
from m2dao.training.frames.targets import decode_frames


class NearestTorso:
    """Recorded torsos by head pose.

    Args:
        capture: poses of the kind the identity was fitted with.
        size: S.
        num_train: frames of the training part.
        soft_masks: as the identity was fitted with.
    """

    def __init__(self, capture: Capture, size: int, num_train: int, *, soft_masks: bool):
        self._capture, self._size, self._num_train, self._soft = capture, size, num_train, soft_masks

    @functools.cached_property
    def _candidates(self) -> np.ndarray:
        """Training frames that show a face: [C] int."""
        return np.flatnonzero(self._capture.valid[: self._num_train])

    @functools.cached_property
    def _poses(self) -> np.ndarray:
        """Head poses against that of the first frame, weighted for comparing: [T, 6] float32."""
        return pose_differences(self._capture.viewmats, self._capture.viewmats[0]) * POSE_WEIGHTS

    def nearest(self, index: int) -> int:
        """The training frame whose pose is nearest to that of frame ``index``."""
        away = np.square(self._poses[self._candidates] - self._poses[index]).sum(axis=1)
        return int(self._candidates[away.argmin()])

    def behind(self, index: int, plate: np.ndarray) -> np.ndarray:
        """Torso and background for the head of frame ``index``.

        Args:
            plate: [S, S, 3] uint8, shown where neither head nor torso was.

        Returns:
            [S, S, 3] float32 0..1.
        """
        nearest = self.nearest(index)
        part = range(nearest, nearest + 1)
        frame = decode_frames(self._capture, self._size, part, plate=plate, soft_masks=self._soft, num_threads=1)
        return frame.target(nearest, generate_torso=False).behind.numpy()
