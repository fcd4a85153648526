"""Measures what an identity loses by being stored in half precision.

Shapes: S pixels a side.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from m2dao.identity.checkpoint import StoredIdentity
from m2dao.motion.talking_head import FrameConditions, TalkingHead
from m2dao.render.api import device_of, render
from m2dao.training.frames.conditions import TrainingConditions
from m2dao.training.frames.targets import TrainingFrames

_NUM_FRAMES = 8
_LEAST = 1e-10  # mean squared error


@torch.no_grad()
def storage_loss_db(
    identity: StoredIdentity,
    stored: StoredIdentity,
    conditions: TrainingConditions,
    frames: TrainingFrames,
    indices: list[int],
    K: Tensor,
    *,
    backend: str,
) -> float:
    """PSNR that frames of the training part lose, mean of the loss of each.

    Args:
        identity: as it was fitted.
        stored: the same read from its checkpoint.
        conditions, frames: what both are shown and compared with.
        indices: frames to choose from, none of which is skipped.
        K: [3, 3] for the frames' size.
        backend: render backend.
    """
    device = device_of(backend)
    heads = [each.head.to(device) for each in (identity, stored)]
    embeddings = [conditions.embeddings_by(each.speech).to(device) for each in (identity, stored)]
    chosen = np.array(indices)[np.linspace(0, len(indices) - 1, _NUM_FRAMES).astype(int)]
    losses = []
    for index in chosen:
        shown = conditions.of(int(index))
        target = frames.target(int(index), generate_torso=identity.head.torso is not None).to(device)
        errors = [
            float(
                (_picture(head, shown._replace(audio=of_it[index]), target.behind, K, backend) - target.rgb)
                .square()
                .mean()
            )
            for head, of_it in zip(heads, embeddings, strict=True)
        ]
        losses.append(10 * np.log10(max(errors[1], _LEAST) / max(errors[0], _LEAST)))
    return float(np.mean(losses))


def _picture(head: TalkingHead, conditions: FrameConditions, behind: Tensor, K: Tensor, backend: str) -> Tensor:
    """[S, S, 3] over what stands behind."""
    size = behind.shape[0]
    posed = head.pose(conditions, head.static_features())
    camera = torch.eye(4, device=behind.device)[None]
    out = render(*posed[:5], camera, K.float()[None].to(behind.device), width=size, height=size, backend=backend)
    return out.colors[0, ..., :3] + (1 - out.alphas[0]) * behind
