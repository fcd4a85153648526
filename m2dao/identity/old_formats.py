"""What identities of the format before lack, found from what they hold."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from m2dao.motion.poses import POSE_WEIGHTS

_LEAP, _LEAP_OF_USUAL = 1.0, 6.0  # a step this large, and this much larger than usual, is a cut


def cuts_of_version_4(poses: Tensor) -> Tensor:
    """Cuts of an identity that does not store them, as its fit found them: poses [T, 6] -> int64 [C].

    The head leaps there from one frame to the next. A capture looks at the pictures as well, and finds more.
    """
    step = np.linalg.norm(np.diff(poses.numpy(), axis=0) * POSE_WEIGHTS, axis=1)
    leaps = step > max(_LEAP, _LEAP_OF_USUAL * np.percentile(step, 95))
    return torch.from_numpy(np.flatnonzero(leaps) + 1)
