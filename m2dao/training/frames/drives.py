"""What drives each frame of a recording in training: sound, expression, pose and what the shoulders make of it.

Shapes: T frames, D embedding.
"""

from __future__ import annotations

import numpy as np
import torch

from m2dao.capture.dataset import Capture
from m2dao.motion.poses import find_shots, pose_differences, slow_differences, viewmat_from_difference
from m2dao.motion.speech import SpeechDriver
from m2dao.motion.talking_head import FrameDrive, TalkingHead
from m2dao.training.frames.targets import TrainingFrames
from m2dao.training.frames.torso_sway import measure_torso_sway


class TrainingDrives:
    """Drives of a capture.

    Args:
        capture: an open capture.
        head: the model, whose reference pose they refer to.
        speech: the voice as learned.
        num_train: frames of the training part.
        neutral: the frame at whose pose the model was seeded.
        device: where drives go.

    Attributes:
        poses, slow_poses: [T, 6] rotation vector (radians) and translation (metres) against the reference pose.
        expression: [T, 8].
        reference_viewmat: [4, 4].
    """

    def __init__(
        self,
        capture: Capture,
        head: TalkingHead,
        speech: SpeechDriver,
        num_train: int,
        neutral: int,
        device: torch.device,
    ):
        self._num_train, self._reference, self._device = num_train, neutral, device
        self._viewmats = torch.from_numpy(np.asarray(capture.viewmats, np.float32))
        neutral = self._viewmats[self._reference]
        self.reference_viewmat = neutral if head.torso is None else head.torso.reference_viewmat
        self.poses = pose_differences(capture.viewmats, self.reference_viewmat.numpy())
        self.slow_poses = slow_differences(self.poses)
        self._slow_viewmats = torch.stack(
            [viewmat_from_difference(row, self.reference_viewmat) for row in self.slow_poses]
        )
        self.expression = torch.from_numpy(np.asarray(capture.expression, np.float32))
        self._capture = capture
        self._embeddings = self.embeddings_by(speech)
        self._torso_poses = self._postures = None

    @torch.no_grad()
    def embeddings_by(self, speech: SpeechDriver) -> torch.Tensor:
        """What a voice makes of the recording's sound: [T, D]."""
        features = self._capture.feature(speech.config.features)
        return speech(speech.windows(features, self._capture.num_frames))

    def of(self, index: int) -> FrameDrive:
        """What drives a frame of the training part."""
        drive = FrameDrive(
            viewmat=self._viewmats[index],
            slow_viewmat=self._slow_viewmats[index],
            audio=self._embeddings[index],
            expression=self.expression[index],
            posture=None if self._postures is None else self._postures[index],
            torso_pose=None if self._torso_poses is None else self._torso_poses[index],
        )
        return drive.to(self._device)

    def measure_torso(self, head: TalkingHead, frames: TrainingFrames, K: np.ndarray, *, start: bool) -> None:
        """What the torso knows of each frame, and how the shoulders rest in its shot.

        Args:
            head: the model, still on the CPU.
            frames: of the training part.
            K: [3, 3] for their size.
            start: whether the torso takes over the sway found, as a fit begins.
        """
        if head.torso is None:
            return
        views = zip(self._viewmats[: self._num_train], self._slow_viewmats, strict=False)
        self._torso_poses = torch.stack([head.torso.pose_features(*pair) for pair in views])
        shots = find_shots(self.poses[: self._num_train])
        sway = measure_torso_sway(head, frames, self._reference, self._torso_poses.numpy(), shots, K)
        postures = torch.from_numpy(sway.postures).float()
        if start:
            head.torso.set_sway(torch.from_numpy(sway.weight).float(), postures[-1])
        self._postures = postures[torch.from_numpy(shots)]
