"""The motion consistency constraint: head and torso move as one body.

The paper states the idea, not the formula: the face is composited over the whole portrait and the whole portrait is
supervised, so that the face can neither penetrate nor detach at the neck. The photometric part of that is the loss on the
full composite; here is the kinematic part.
Shapes: N torso Gaussians.
"""

from __future__ import annotations

from torch import Tensor


def neck_consistency(follow: Tensor, displacement: Tensor, rigid_displacement: Tensor) -> Tensor:
    """How far the part of the torso that belongs to the head strays from the head's rigid motion.

    Args:
        follow: [N] weight of each Gaussian in the head's motion, 0..1.
        displacement: [N, 3] where the model moves it, metres.
        rigid_displacement: [N, 3] where the head would take it, metres.

    Returns:
        Scalar, mean square of centimetres weighted by ``follow`` squared, so that shoulders are free.
    """
    stray_cm = 100 * (displacement - rigid_displacement)
    weight = follow.detach().square()
    return (weight[:, None] * stray_cm.square()).sum() / weight.sum().clamp_min(1.0)
