"""Which frame each step of a fit looks at."""

from __future__ import annotations

import numpy as np

_MAX_POISONED_SHARE = 0.05  # of the frames; more than that is not the frames' fault
_REPEATED_SHARE = 0.1  # of an epoch; who looks down for a third of a recording needs no more of that


class FrameOrder:
    """Every usable frame once in each epoch, some repeatedly, in an order that depends on seed and epoch alone.

    Args:
        usable: indices of frames with a face.
        repeated: those of them that come up more often, because there are few of them.
        repeats: how often these come up in an epoch, at most; not so often that they make up more than a tenth of it.
        seed: of the order.
    """

    def __init__(self, usable: np.ndarray, repeated: np.ndarray, repeats: int, seed: int):
        self.poisoned: set[int] = set()
        others = len(usable) - len(repeated)
        most = _REPEATED_SHARE / (1 - _REPEATED_SHARE) * others / max(1, len(repeated))
        self._frames = np.concatenate([usable, *[repeated] * (min(repeats, int(most)) - 1)])
        self._max_poisoned = min(max(3, int(_MAX_POISONED_SHARE * len(usable))), len(usable) - 1)  # one must be left
        self._seed, self._epoch = seed, -1

    def frame_of(self, step: int) -> int:
        """The frame of a step; in place of a poisoned one, the next in the epoch that is not."""
        epoch, position = divmod(step, len(self._frames))
        if self._epoch != epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch]).permutation(self._frames)
        while int(self._order[position]) in self.poisoned:
            position = (position + 1) % len(self._order)
        return int(self._order[position])

    def poison(self, index: int) -> bool:
        """Leave a frame out from now on; False if there are too many of them to go on."""
        self.poisoned.add(index)
        return len(self.poisoned) <= self._max_poisoned
