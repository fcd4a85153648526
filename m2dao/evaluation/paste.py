"""Pastes a generated head into the recording: protocol ``paper``.

Shapes: S pixels a side.
"""

from __future__ import annotations

import numpy as np
import torch

from m2dao.identity.talker import Talker
from m2dao.motion.talking_head import FrameConditions
from m2dao.regions import WHOLE_HEAD
from m2dao.render.api import render
from m2dao.render.types import RenderOutput
from m2dao.training.frames.behind import head_taken


class HeadAlone:
    """Renders an identity's head without its torso.

    Args:
        talker: with or without a torso.
    """

    @torch.no_grad()
    def __init__(self, talker: Talker):
        self._talker, self._static = talker, talker.head.static_features()
        self._K = torch.tensor(talker.manifest.K, dtype=torch.float32, device=talker.device)[None]
        self._camera = torch.eye(4, device=talker.device)[None]

    @torch.no_grad()
    def render(self, conditions: FrameConditions) -> RenderOutput:
        """One frame: colors [1, S, S, 4] premultiplied, alphas [1, S, S, 1]."""
        posed = self._talker.head.pose(conditions.to(self._talker.device), self._static)
        opacities = posed.opacities * posed.colors[:, 3]  # the head flag: none of the torso is left
        gaussians = posed.means, posed.quats, posed.scales, opacities, posed.colors
        size, backend = self._talker.size, self._talker.backend
        return render(*gaussians, self._camera, self._K, width=size, height=size, backend=backend)


def paste_head(
    picture: np.ndarray, output: RenderOutput, alone: RenderOutput, masks: np.ndarray, recorded: np.ndarray
) -> np.ndarray:
    """The recording with the generated head in it.

    Where the recording shows the head, ``picture`` stands: nobody knows what lies behind. Elsewhere the head covers the
    recorded torso and background by its own colour. A soft mask says how much head a recorded pixel already holds; only
    what goes beyond that covers it. So a head counts alike whether its identity has a torso or not.

    Args:
        picture: [S, S, 3] uint8, the render over what stands behind the head.
        output: the render; its fourth channel is the visible alpha of the head.
        alone: the same frame by :class:`HeadAlone`.
        masks: [S, S, 4] float 0..1, of the recording.
        recorded: [S, S, 3] uint8.

    Returns:
        [S, S, 3] uint8.
    """
    colors, alpha = alone.colors[0, ..., :3].cpu().numpy(), alone.alphas[0].cpu().numpy()
    straight = 255 * np.clip(colors / np.maximum(alpha, 1e-6), 0, 1)
    held = masks[..., WHOLE_HEAD].sum(-1)
    coverage = output.colors[0, ..., 3].cpu().numpy()
    beyond = np.clip((coverage - held) / np.maximum(1 - held, 1e-6), 0, 1)[..., None]
    pasted = beyond * straight + (1 - beyond) * recorded
    return np.round(np.where(head_taken(masks)[..., None], picture, pasted)).astype(np.uint8)
