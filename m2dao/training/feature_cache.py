"""Static features of a head in training, brought up to date and differentiated every few steps instead of every step.

Tri-planes and their network cost as much as all the rest of posing, and one step moves them by little. So the features stay
as they are for a block of frames; what those frames ask of them is added up and goes through the network once. Fields that do
not train in the present turn are asked once a turn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m2dao.motion.talking_head import StaticFeatures, TalkingHead


class FeatureCache:
    """Features of one head.

    Args:
        head: the model; its fields must not change otherwise than by what :meth:`differentiate` gave them.
        block_steps: frames between two updates.
    """

    def __init__(self, head: TalkingHead, block_steps: int):
        self._head, self._block_steps = head, block_steps
        self.clear()

    def clear(self) -> None:
        """Forget everything: other parameters train from now on, or there are other Gaussians."""
        self._made: dict[str, dict[str, Tensor]] = {}  # with their graphs, by field and part
        self._leaves: dict[str, dict[str, Tensor]] = {}
        self._num_frames = 0

    def get(self) -> StaticFeatures:
        """The features to pose the next frame with."""
        for name, field in self._head.fields.items():
            if name not in self._made:
                trains = next(field.parameters()).requires_grad
                with torch.set_grad_enabled(trains):
                    self._made[name] = self._head.field_features(name)
                self._leaves[name] = {
                    part: value.detach().requires_grad_(trains) for part, value in self._made[name].items()
                }
        return StaticFeatures(**{part: leaf for parts in self._leaves.values() for part, leaf in parts.items()})

    def differentiate(self) -> None:
        """To be called after each frame that counts: at the end of a block, gradients reach the fields' parameters."""
        self._num_frames += 1
        if self._num_frames < self._block_steps:
            return
        pairs = [
            (made, leaf.grad)
            for name in self._made
            for made, leaf in zip(self._made[name].values(), self._leaves[name].values(), strict=True)
            if leaf.grad is not None
        ]
        if pairs:
            torch.autograd.backward(*zip(*pairs, strict=True))
        for name in [name for name, parts in self._leaves.items() if next(iter(parts.values())).requires_grad]:
            del self._made[name], self._leaves[name]
        self._num_frames = 0
