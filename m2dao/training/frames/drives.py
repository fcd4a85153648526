"""The conditions of each training frame: sound, expression, pose and the shoulders' motion.

Shapes: T frames, D embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from m2dao.capture.dataset import Capture
from m2dao.motion.poses import find_shots, pose_differences, slow_differences, viewmat_from_difference
from m2dao.motion.speech import SpeechDriver
from m2dao.motion.talking_head import FrameDrive, TalkingHead
from m2dao.training.frames.targets import TrainingFrames
from m2dao.training.frames.torso_sway import measure_torso_sway


class TrainingDrives(NamedTuple):
    """Drives of a capture, see :func:`measure_drives`."""

    capture: Capture
    device: torch.device  # where drives go
    viewmats: Tensor  # [T, 4, 4] head space to camera
    slow_viewmats: Tensor  # [T, 4, 4] the same, low-passed
    poses: np.ndarray  # [T, 6] rotation vector (radians) and translation (metres) against the reference pose
    slow_poses: np.ndarray  # [T, 6]
    embeddings: Tensor  # [T, D] what the voice makes of the sound
    expression: Tensor  # [T, 8]
    reference_viewmat: Tensor  # [4, 4]
    torso: TorsoDrives | None

    def embeddings_by(self, speech: SpeechDriver) -> Tensor:
        """What another voice makes of the recording's sound: [T, D]."""
        return _embeddings(self.capture, speech)

    def of(self, index: int) -> FrameDrive:
        """What drives a frame of the training part."""
        drive = FrameDrive(
            viewmat=self.viewmats[index],
            slow_viewmat=self.slow_viewmats[index],
            audio=self.embeddings[index],
            expression=self.expression[index],
            posture=self.torso.postures[index] if self.torso else None,
            torso_pose=self.torso.poses[index] if self.torso else None,
        )
        return drive.to(self.device)


class TorsoDrives(NamedTuple):
    """What the torso knows of each frame of the training part."""

    poses: Tensor  # [T, 12] pose features
    postures: Tensor  # [T, 4] how the shoulders rest in the frame's shot


def measure_drives(
    capture: Capture,
    head: TalkingHead,
    speech: SpeechDriver,
    frames: TrainingFrames,
    *,
    num_train: int,
    neutral: int,
    K: np.ndarray,
    device: torch.device,
) -> TrainingDrives:
    """Find what drives each frame, and give the head's torso the sway that the recording shows.

    Args:
        capture: an open capture.
        head: the model as a fit begins, on the CPU; drives refer to its reference pose.
        speech: the voice as learned.
        frames: of the training part.
        num_train: how many there are in it.
        neutral: the frame at whose pose the model was seeded.
        K: [3, 3] for the frames' size.
        device: where drives go.
    """
    viewmats = torch.from_numpy(np.asarray(capture.viewmats, np.float32))
    reference = viewmats[neutral] if head.torso is None else head.torso.reference_viewmat
    poses = pose_differences(capture.viewmats, reference.numpy())
    slow_poses = slow_differences(poses)
    slow_viewmats = torch.stack([viewmat_from_difference(row, reference) for row in slow_poses])
    torso = None
    if head.torso is not None:
        views = zip(viewmats[:num_train], slow_viewmats[:num_train], strict=True)
        features = torch.stack([head.torso.pose_features(*pair) for pair in views])
        shots = find_shots(poses[:num_train])
        sway = measure_torso_sway(head, frames, neutral, features.numpy(), shots, K)
        postures = torch.from_numpy(sway.postures).float()
        head.torso.set_sway(torch.from_numpy(sway.weight).float(), postures[-1])
        torso = TorsoDrives(features, postures[torch.from_numpy(shots)])
    return TrainingDrives(
        capture=capture,
        device=device,
        viewmats=viewmats,
        slow_viewmats=slow_viewmats,
        poses=poses,
        slow_poses=slow_poses,
        embeddings=_embeddings(capture, speech),
        expression=torch.from_numpy(np.asarray(capture.expression, np.float32)),
        reference_viewmat=reference,
        torso=torso,
    )


@torch.no_grad()
def _embeddings(capture: Capture, speech: SpeechDriver) -> Tensor:
    features = capture.feature(speech.config.features)
    return speech(speech.windows(features, capture.num_frames))
