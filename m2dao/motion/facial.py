"""Non-rigid facial motion: skin, jaw, brows and lids, driven by sound and expression."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EXPRESSION_SIZE = 6  # blinks and brows; see the capture's `expression_names`


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
    """Sound and expression to the motion of the face, each with its own region attention.

    Args:
        field: a field with two code groups, of sizes ``audio_code.num_outputs`` and ``EXPRESSION_SIZE``.
        audio_code: the extension of the audio embedding.
    """

    def __init__(self, field: nn.Module, audio_code: AudioCode):
        super().__init__()
        self.field = field
        self.audio_code = audio_code

    def static_features(self, means: Tensor) -> Tensor:
        """[N, 3] -> [N, features]."""
        return self.field.static_features(means)

    def displace(self, features: Tensor, audio: Tensor, expression: Tensor):
        """The motion of one frame.

        Args:
            features: [N, features] from :meth:`static_features`.
            audio: [D] audio embedding.
            expression: [6] blinks and brows.
        """
        return self.field.displace(features, (self.audio_code(audio), expression))
