"""Moves lips, teeth and tongue by sound and by what the face does to the lips.

Shapes: N oral Gaussians, P probe points on the lips.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from m2dao.motion.facial import AudioCode
from m2dao.motion.factored import Field, FieldMotion
from m2dao.regions import LIP_PROBES

_MOTION_SCALE = 100.0  # metres to centimetres: numbers of order one


class OralField(nn.Module):
    """Sound and the lips' facial motion to the motion of the mouth.

    Args:
        field: a field with two code groups, of sizes ``audio_code.num_outputs`` and ``motion_code_size(P)``.
        audio_code: the extension of the audio embedding.
        lip_probes: [P, 3] canonical points on the lips where the facial motion is read.
    """

    lip_probes: Tensor

    def __init__(self, field: Field, audio_code: AudioCode, lip_probes: Tensor):
        super().__init__()
        self.field = field
        self.audio_code = audio_code
        self.register_buffer("lip_probes", lip_probes.float().clone())

    @staticmethod
    def motion_code_size(num_probes: int) -> int:
        """Entries of the second code group."""
        return 3 * num_probes

    @staticmethod
    def motion_code(d_means: Tensor) -> Tensor:
        """What the oral field is told of how the probes move: [..., P, 3] metres -> [..., 3 P] centimetres."""
        return (_MOTION_SCALE * d_means).flatten(-2)

    def frame(self, audio: Tensor, lip_motion: Tensor) -> Callable[[Tensor], FieldMotion]:
        """What the field does in one frame, a function of what its ``static_features`` gave.

        Args:
            audio: [..., D] audio embedding.
            lip_motion: [..., 3 P] from :meth:`motion_code`.
        """
        return self.field.frame((self.audio_code(audio), lip_motion))


def choose_lip_probes(canonical_landmarks: Tensor) -> Tensor:
    """Points on the lips, from the 478-point mesh.

    Args:
        canonical_landmarks: [478, 3] metres.

    Returns:
        [6, 3]: middle of the upper and of the lower lip, both corners, and halfway left and right below.
    """
    return canonical_landmarks[torch.tensor(LIP_PROBES)]
