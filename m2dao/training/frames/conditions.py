"""The conditions of each training frame: sound, expression, pose and the shoulders' motion.

Shapes: T frames, D embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from m2dao.capture.dataset import Capture
from m2dao.gaussians.rotations import quat_from_matrix
from m2dao.motion.facial import POSE_SIZE
from m2dao.motion.poses import pose_differences, pose_features, slow_differences
from m2dao.motion.speech import SpeechDriver
from m2dao.motion.talking_head import FrameConditions, TalkingHead
from m2dao.training.frames.targets import TrainingFrames
from m2dao.training.frames.torso_sway import measure_torso_sway
from m2dao.training.speech.learned_sound import LearnedSound


class RecordedLips(NamedTuple):
    """What lips did, to be mixed with what the encoders make of the sound.

    Faces that learn from predicted lips alone are blurred, because one prediction stands for several shapes. From
    recorded lips alone they learn shapes that no prediction asks for.
    """

    articulation: np.ndarray  # [T', D] of the training part
    share: float  # 0 to 1

    def mixed_with(self, embeddings: Tensor, speech: SpeechDriver) -> Tensor:
        """Embeddings [T, D], those of the training part moved towards the recorded lips."""
        recorded = speech.standardise(torch.from_numpy(self.articulation))
        mixed = embeddings.clone()
        mixed[: len(recorded)] += self.share * (recorded - mixed[: len(recorded)])
        return mixed


class TrainingConditions(NamedTuple):
    """Conditions of a capture, see :func:`measure_conditions`."""

    capture: Capture
    device: torch.device  # where conditions go
    viewmats: Tensor  # [T, 4, 4] head space to camera
    poses: np.ndarray  # [T, 6] rotation vector (radians) and translation (metres) against the reference pose
    slow_poses: np.ndarray  # [T, 6]
    pose_features: Tensor  # [T, 12] both as fields see them
    embeddings: Tensor  # [T, D] what the voice makes of the sound, with a share of recorded lips in the training part
    expression: Tensor  # [T, 8]
    reference_viewmat: Tensor  # [4, 4]
    view_quats: Tensor  # [T, 4] rotations of the poses: found number by number, for which a step would wait on a GPU
    postures: Tensor | None  # [T, 4] how the shoulders rest in the frame's shot, of the training part
    sound: LearnedSound | None = None  # gives the embeddings of steps, where the picture teaches the sound

    def embeddings_by(self, speech: SpeechDriver) -> Tensor:
        """What another voice makes of the recording's sound: [T, D]."""
        return _embeddings(self.capture, speech)

    def of(self, index: int) -> FrameConditions:
        """What drives a frame of the training part."""
        conditions = FrameConditions(
            viewmat=self.viewmats[index],
            pose=self.pose_features[index],
            audio=self.embeddings[index] if self.sound is None else self.sound.embedding(index),
            expression=self.expression[index],
            posture=None if self.postures is None else self.postures[index],
            view_quat=self.view_quats[index],
        )
        return conditions.to(self.device)


def measure_conditions(
    capture: Capture,
    head: TalkingHead,
    speech: SpeechDriver,
    frames: TrainingFrames,
    *,
    lips: RecordedLips,
    neutral: int,
    K: np.ndarray,
    device: torch.device,
) -> TrainingConditions:
    """Find what drives each frame, and give the head's torso the sway that the recording shows.

    Args:
        capture: an open capture.
        head: the model as a fit begins, on the CPU; conditions refer to its reference pose.
        speech: the voice as learned.
        frames: of the training part.
        lips: what the lips did in the training part, and how much of it drives the faces.
        neutral: the frame at whose pose the model was seeded.
        K: [3, 3] for the frames' size.
        device: where conditions go.
    """
    num_train = len(lips.articulation)
    viewmats = torch.from_numpy(np.asarray(capture.viewmats, np.float32))
    reference = viewmats[neutral] if head.torso is None else head.torso.reference_viewmat
    poses = pose_differences(capture.viewmats, reference.numpy())
    slow_poses = slow_differences(poses, capture.shots)
    features, postures = pose_features(poses, slow_poses), None
    head.facial.set_pose_range(features[:num_train, :POSE_SIZE])
    if head.torso is not None:
        shots = capture.shots[:num_train]
        sway = measure_torso_sway(head, frames, neutral, features[:num_train].numpy(), shots, K)
        by_shot = torch.from_numpy(sway.postures).float()
        head.torso.set_sway(torch.from_numpy(sway.weight).float(), by_shot[-1])
        postures = by_shot[torch.from_numpy(shots)]
    return TrainingConditions(
        capture=capture,
        device=device,
        viewmats=viewmats,
        poses=poses,
        slow_poses=slow_poses,
        pose_features=features,
        embeddings=lips.mixed_with(_embeddings(capture, speech), speech),
        expression=torch.from_numpy(np.asarray(capture.expression, np.float32)),
        reference_viewmat=reference,
        view_quats=torch.stack([quat_from_matrix(viewmat[:3, :3]) for viewmat in viewmats]),
        postures=postures,
    )


@torch.no_grad()
def _embeddings(capture: Capture, speech: SpeechDriver) -> Tensor:
    features = capture.feature(speech.config.features)
    return speech(speech.windows(features, capture.num_frames))
