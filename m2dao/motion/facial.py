"""Moves skin, jaw, brows, lids and irises by sound and expression, and hair by the pose."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from m2dao.motion.factored import Field
from m2dao.motion.linear import Linear, one_row
from m2dao.regions import EYE_PROBES

EXPRESSION_SIZE = 8  # blinks, brows and gaze; see the capture's `expression_names`
_LIDS, _BROWS, _GAZE = slice(0, 2), slice(2, 6), slice(6, 8)
POSE_SIZE = 6
NUM_LID_PROBES = 8  # of the eye probes, the first; the others lie on the brows
_POSE_LIMIT = 2.0  # 23 degrees or 67 mm from the reference, for poses that nobody has measured
_HULL = (0.01, 0.99)  # quantiles of the poses of a recording, between which its face is known


class AudioCode(nn.Module):
    """A non-linear extension of the audio embedding, so that fields linear in their codes can still bend.

    Args:
        embedding_size: D.
        num_extra: entries added to the D given ones.
    """

    def __init__(self, embedding_size: int, num_extra: int = 16):
        super().__init__()
        self.mlp = nn.Sequential(Linear(embedding_size, 32), nn.SiLU(), Linear(32, num_extra), nn.Tanh())
        self.num_outputs = embedding_size + num_extra

    def forward(self, embedding: Tensor) -> Tensor:
        """[..., D] -> [..., D + num_extra]."""
        return torch.cat([embedding, one_row(self.mlp, embedding)], dim=-1)


class FacialField(nn.Module):
    """Sound, eyes, brows and pose to the motion of the face, each with its own region attention.

    Args:
        field: a field with the code groups of :meth:`code_sizes`.
        audio_code: the extension of the audio embedding.
        eye_probes: [P, 3] canonical points around the eyes.
        sees_pose: whether the head's pose moves anything beyond the rigid head, because hair lags and depths are
            never quite right.
        sees_gaze: whether irises move.
    """

    eye_probes: Tensor
    pose_range: Tensor  # [2, 6] lowest and highest
    POSE_WEIGHTS_NAME = "field.weights.3"  # of the factored field: what the pose moves

    def __init__(self, field: Field, audio_code: AudioCode, eye_probes: Tensor, *, sees_pose: bool, sees_gaze: bool):
        super().__init__()
        self.field = field
        self.audio_code = audio_code
        self.sees_pose, self.sees_gaze = sees_pose, sees_gaze
        self.register_buffer("eye_probes", eye_probes.float().clone())
        # Of the recording and not of the face: an identity has its poses in its signals.
        self.register_buffer("pose_range", torch.tensor([[-_POSE_LIMIT], [_POSE_LIMIT]]).repeat(1, 6), persistent=False)

    def set_pose_range(self, poses: Tensor) -> None:
        """Let nothing move further by the pose than in the recording.

        Beyond it, a motion linear in the pose is a guess.

        Args:
            poses: [T, 6] pose features of the training part, as ``codes`` gets them.
        """
        quantiles = poses.float().quantile(torch.tensor(_HULL, device=poses.device), dim=0)
        self.pose_range.copy_(quantiles.clamp(-_POSE_LIMIT, _POSE_LIMIT))

    @staticmethod
    def code_sizes(audio_code: AudioCode, *, sees_pose: bool, sees_gaze: bool) -> tuple[int, ...]:
        """Entries of each code group: sound; lids and irises; brows and squint; the pose if it is seen."""
        return (audio_code.num_outputs, 4 if sees_gaze else 2, 4, *([POSE_SIZE] if sees_pose else []))

    def codes(self, audio: Tensor, expression: Tensor, pose: Tensor | None) -> tuple[Tensor, ...]:
        """What the field is told of a frame.

        Args:
            audio: [..., D] audio embedding.
            expression: [..., 8] blinks, brows and gaze.
            pose: [..., 6] how the head stands, numbers of order one; not read by a field that does not see it.
        """
        eyes = expression[..., _LIDS]
        if self.sees_gaze:
            eyes = torch.cat([eyes, expression[..., _GAZE]], dim=-1)
        codes = (self.audio_code(audio), eyes, expression[..., _BROWS])
        if not self.sees_pose:
            return codes
        assert pose is not None
        return (*codes, torch.minimum(torch.maximum(pose, self.pose_range[..., 0, :]), self.pose_range[..., 1, :]))


def choose_eye_probes(canonical_landmarks: Tensor) -> Tensor:
    """Corners and lids of the eyes and three points of each brow: mesh [478, 3] -> [14, 3] metres."""
    return canonical_landmarks[torch.tensor(EYE_PROBES)]
