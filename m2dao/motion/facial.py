"""Non-rigid facial motion: skin, jaw, brows and lids, driven by sound and expression; and hair, which a turning head leaves behind."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EXPRESSION_SIZE = 6  # blinks and brows; see the capture's `expression_names`
POSE_SIZE = 6
_POSE_LIMIT = 2.0  # 23 degrees or 67 mm from the reference: beyond that, a motion linear in the pose is a guess


class AudioCode(nn.Module):
    """A non-linear extension of the audio embedding, so that fields linear in their codes can still bend.

    Args:
        embedding_size: D.
        num_extra: entries added to the D given ones.
    """

    def __init__(self, embedding_size: int, num_extra: int = 16):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(embedding_size, 32), nn.SiLU(), nn.Linear(32, num_extra), nn.Tanh())
        self.num_outputs = embedding_size + num_extra

    def forward(self, embedding: Tensor) -> Tensor:
        """[D] -> [D + num_extra]."""
        return torch.cat([embedding, self.mlp(embedding)])


class FacialField(nn.Module):
    """Sound, expression and pose to the motion of the face, each with its own region attention.

    Args:
        field: a field with two code groups, of sizes ``audio_code.num_outputs`` and ``EXPRESSION_SIZE``, and a third of size
            ``POSE_SIZE`` if it sees the pose.
        audio_code: the extension of the audio embedding.
        eye_probes: [P, 3] canonical points around the eyes.
        sees_pose: whether the head's pose moves anything beyond the rigid head: hair lags, and depths are never quite right.
    """

    def __init__(self, field: nn.Module, audio_code: AudioCode, eye_probes: Tensor, *, sees_pose: bool):
        super().__init__()
        self.field = field
        self.audio_code = audio_code
        self.sees_pose = sees_pose
        self.register_buffer("eye_probes", eye_probes.float().clone())

    def static_features(self, means: Tensor) -> Tensor:
        """[N, 3] -> [N, features]."""
        return self.field.static_features(means)

    def codes(self, audio: Tensor, expression: Tensor, pose: Tensor | None) -> tuple[Tensor, ...]:
        """What the field is told of a frame.

        Args:
            audio: [D] audio embedding.
            expression: [6] blinks and brows.
            pose: [6] how the head stands, numbers of order one; not read by a field that does not see it.
        """
        codes = (self.audio_code(audio), expression)
        return (*codes, pose.clamp(-_POSE_LIMIT, _POSE_LIMIT)) if self.sees_pose else codes


def choose_eye_probes(canonical_landmarks: Tensor) -> Tensor:
    """Corners of the eyes and three points of each brow, from the 478-point mesh: [478, 3] -> [10, 3] metres."""
    indices = torch.tensor([33, 133, 362, 263, 70, 105, 107, 300, 334, 336])
    return canonical_landmarks[indices]
