"""What an identity loses by being stored in half precision.

Shapes: S pixels a side.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from m2dao.identity.checkpoint import StoredIdentity
from m2dao.motion.talking_head import FrameDrive, TalkingHead
from m2dao.render.api import render
from m2dao.training.drives import TrainingDrives
from m2dao.training.frames import TrainingFrames

_NUM_FRAMES = 8
_LEAST = 1e-10  # mean squared error


@torch.no_grad()
def storage_loss_db(
    head: TalkingHead,
    stored: StoredIdentity,
    drives: TrainingDrives,
    frames: TrainingFrames,
    indices: list[int],
    K: Tensor,
    *,
    backend: str,
) -> float:
    """PSNR that frames of the training part lose, mean of the loss of each.

    Args:
        head: as it was fitted.
        stored: the same read from its checkpoint.
        drives, frames: what both are shown and compared with.
        indices: frames to choose from, none of which is poisoned.
        K: [3, 3] for the frames' size.
        backend: render backend.
    """
    embeddings = drives.embeddings_by(stored.speech)
    chosen = np.array(indices)[np.linspace(0, len(indices) - 1, _NUM_FRAMES).astype(int)]
    losses = []
    for index in chosen:
        drive = drives.of(int(index))
        target = frames.target(int(index), generate_torso=head.torso is not None)
        errors = [
            float((_picture(each, drive_of_it, target.behind, K, backend) - target.rgb).square().mean())
            for each, drive_of_it in ((head, drive), (stored.head, drive._replace(audio=embeddings[index])))
        ]
        losses.append(10 * np.log10(max(errors[1], _LEAST) / max(errors[0], _LEAST)))
    return float(np.mean(losses))


def _picture(head: TalkingHead, drive: FrameDrive, behind: Tensor, K: Tensor, backend: str) -> Tensor:
    """[S, S, 3] over what stands behind."""
    size = behind.shape[0]
    posed = head.pose(drive, head.static_features())
    out = render(*posed[:5], torch.eye(4)[None], K.float()[None], width=size, height=size, backend=backend)
    return out.colors[0, ..., :3] + (1 - out.alphas[0]) * behind
