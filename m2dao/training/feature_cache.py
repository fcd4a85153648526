"""Static features of a head in training, updated and differentiated every few steps.

Tri-planes and their network cost as much as all the rest of posing, and one step moves them by little. So the features
stay as they are for a block of frames. The gradients of those frames are added up and go through the network once.
Fields that do not train in the present phase are asked once a block of steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from m2dao.kernels.threads import call_together
from m2dao.motion.facial import FacialField
from m2dao.motion.oral import OralField
from m2dao.motion.talking_head import StaticFeatures, TalkingHead
from m2dao.motion.torso import TorsoField

_CPU_PIECES = 2  # of a field's points; fixed, so that sums do not depend on the number of threads


class _Field(NamedTuple):
    """The features of one field."""

    pieces: tuple[Tensor, ...]  # [P_i, F] with their graphs; all points of all parts, cut into pieces
    leaves: dict[str, Tensor]  # [P, F] by part, where the gradients of frames are added up


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
        self._fields: dict[str, _Field] = {}
        self._num_frames = 0

    def get(self) -> StaticFeatures:
        """The features to pose the next frame with."""
        missing = {name: self._head.field_points(name) for name in self._head.fields if name not in self._fields}
        asked = {name: _cut(points.values()) for name, points in missing.items()}
        calls = [partial(_ask, self._head.fields[name], *piece) for name, pieces in asked.items() for piece in pieces]
        answers = iter(call_together(calls))
        for name, points in missing.items():
            pieces = tuple(next(answers) for _ in asked[name])
            whole = torch.cat([piece.detach() for piece in pieces]).split([len(means) for means, _ in points.values()])
            trains = _trains(self._head.fields[name])
            leaves = {part: value.requires_grad_(trains) for part, value in zip(points, whole, strict=True)}
            self._fields[name] = _Field(pieces, leaves)
        return {part: leaf for made in self._fields.values() for part, leaf in made.leaves.items()}

    @property
    def num_frames_left(self) -> int:
        """How many frames may still be posed with the present features."""
        return self._block_steps - self._num_frames

    def leaves(self) -> list[Tensor]:
        """The features of fields that train, where gradients of frames are asked for."""
        return [leaf for made in self._fields.values() for leaf in made.leaves.values() if leaf.requires_grad]

    def differentiate(self, gradients: Sequence[Tensor | None]) -> None:
        """Count a frame: at the end of a block, gradients reach the fields' parameters.

        Args:
            gradients: of the frame by each of :meth:`leaves`.
        """
        for leaf, gradient in zip(self.leaves(), gradients, strict=True):
            if gradient is not None:
                leaf.grad = gradient if leaf.grad is None else leaf.grad.add_(gradient)
        self._num_frames += 1
        if self._num_frames < self._block_steps:
            return
        training = [name for name in self._fields if _trains(self._head.fields[name])]
        calls, targets = [], []
        for made, parameters in (
            (self._fields[name], [*self._head.fields[name].field.parameters()]) for name in training
        ):
            leaves = [*made.leaves.values()]
            if all(leaf.grad is None for leaf in leaves):
                continue
            asked = torch.cat([torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves])
            for piece, v_piece in zip(made.pieces, asked.split([len(piece) for piece in made.pieces]), strict=True):
                calls.append(partial(torch.autograd.grad, piece, parameters, v_piece, allow_unused=True))
                targets.append(parameters)
        for parameters, found in zip(targets, call_together(calls), strict=True):
            for parameter, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        for name in training:
            del self._fields[name]
        self._num_frames = 0


def _trains(field: nn.Module) -> bool:
    return next(field.parameters()).requires_grad


def _cut(points: Iterable[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """All points of a field and their weights, in pieces for several threads of a CPU."""
    means, weights = (torch.cat(values) for values in zip(*points, strict=True))
    size = -(-len(means) // _CPU_PIECES) if means.device.type == "cpu" else len(means)
    return list(zip(means.split(size), weights.split(size), strict=True))


def _ask(field: FacialField | OralField | TorsoField, means: Tensor, weights: Tensor) -> Tensor:
    """Features of some points; gradients are set for each thread, hence here."""
    with torch.set_grad_enabled(_trains(field)):
        return field.field.static_features(means, weights)
