"""The motion consistency constraint: head and torso move as one body.

The paper states the idea, not the formula: the face is composited over the whole portrait, and the whole portrait is
supervised, so that the face can neither penetrate nor detach at the neck. The loss on the full composite is the
photometric part of that; here is the kinematic part. Each Gaussian of the torso follows the head by a skinning weight
of its own. Left to the picture alone these weights scatter, and a deep tilt of the head tears single Gaussians out of
collar and shoulders. A body does not tear: neighbours have like weights, which fall smoothly from chin to shoulders.
Shapes: N torso Gaussians, K neighbours.
"""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree
from torch import Tensor

_NUM_NEIGHBOURS = 5


def find_neighbours(means: Tensor) -> Tensor:
    """The Gaussians nearest to each one: [N, 3] -> [N, K] indices, on the device of the means."""
    nearest = min(_NUM_NEIGHBOURS + 1, len(means))
    _, found = cKDTree(means.detach().cpu().numpy()).query(means.detach().cpu().numpy(), k=list(range(2, nearest + 1)))
    return torch.from_numpy(found).to(means.device)


def neck_consistency(skinning: Tensor, neighbours: Tensor) -> Tensor:
    """How differently neighbours follow the head.

    Args:
        skinning: [N] weight of each Gaussian in the head's motion, 0..1.
        neighbours: [N, K] from :func:`find_neighbours`.

    Returns:
        Scalar, mean square of the difference between two weights.
    """
    return (skinning[:, None] - skinning[neighbours]).square().mean()
