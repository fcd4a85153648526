"""Targets made while the step before is under way."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from m2dao.training.frames.targets import TrainingFrames
from m2dao.training.losses.terms import FrameTarget


class TargetsAhead:
    """The targets of a fit, one ahead of the step that needs it.

    Args:
        frames: where they come from.
        generate_torso: see :meth:`TrainingFrames.target`.
        device: where they go.
        ahead: whether to make one ahead: what a GPU wants, while cores that take the steps themselves have no time for it.
    """

    def __init__(self, frames: TrainingFrames, *, generate_torso: bool, device: torch.device, ahead: bool):
        self._frames, self._generate_torso, self._device = frames, generate_torso, device
        self._pool = ThreadPoolExecutor(1, "target") if ahead else None
        self._coming: dict[int, Future[FrameTarget]] = {}

    def take(self, index: int, following: int) -> FrameTarget:
        """The target of a frame; that of the frame that probably follows is begun."""
        coming = self._coming.pop(index, None)
        target = coming.result() if coming else self._make(index)
        self._coming = {following: self._pool.submit(self._make, following)} if self._pool else {}
        return target

    def _make(self, index: int) -> FrameTarget:
        return self._frames.target(index, generate_torso=self._generate_torso).to(self._device)
