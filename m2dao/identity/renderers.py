"""Turns conditions into finished pictures: one way for a CPU, one for everything else.

Both have the same interface; which of them a talker has is decided once, by its backend.
Shapes: B frames, H = W = size pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from m2dao.identity.batch_scheduler import Client, scheduler_of
from m2dao.identity.batches import BatchedHead
from m2dao.kernels.compiled import compile_ahead
from m2dao.motion.kernels.baked import BakedHead
from m2dao.motion.talking_head import FrameConditions, TalkingHead
from m2dao.render import api
from m2dao.render.api import device_of, render
from m2dao.render.composite import finish_picture, finish_pictures
from m2dao.render.types import RenderOutput
from m2dao.stages import timed
from m2dao.timeline import FRAME_RATE


def warm_up(backend: str) -> None:
    """Compiles everything that rendering an identity by this backend runs.

    Raises:
        InputError: the backend is unknown.
        RenderBackendUnavailable: it does not run on this machine.
    """
    api.warm_up(backend)
    compile_ahead("m2dao.motion")


def probe(backend: str) -> None:
    """Renders one Gaussian as an identity would be rendered; raises when that fails."""
    api.probe(backend)


class BakedRenderer:
    """Frame by frame, by the kernels of the backend ``cpu``.

    Args:
        head: on the CPU; must not change afterwards.
        K: [3, 3].
        size: pixels.
    """

    frames_at_once = 1  # so that the first picture of a piece of sound does not wait for the others

    def __init__(self, head: TalkingHead, K: Tensor, size: int):
        self._baked, self._size = BakedHead(head), size
        self._K, self._camera = K[None], torch.eye(4)[None]

    @property
    def num_bytes(self) -> int:
        """Memory taken beside the head's own parameters."""
        return self._baked.num_bytes

    @torch.no_grad()
    def render(self, conditions: FrameConditions) -> RenderOutput:
        """One frame: colors [1, H, W, 4] premultiplied RGB and visible head alpha; alphas [1, H, W, 1]."""
        with timed("motion"):
            posed = self._baked.pose(conditions)
        return render(*posed, self._camera, self._K, width=self._size, height=self._size, backend="cpu")

    def pictures(self, frames: FrameConditions, backdrop: np.ndarray | None) -> list[np.ndarray]:
        """Finished pictures of B frames, each [H, W, 3], or [H, W, 4] without a backdrop."""
        out = []
        for index in range(len(frames.viewmat)):
            output = self.render(frames.at(index))
            with timed("composite"):
                out.append(finish_picture(output.colors[0].numpy(), output.alphas[0].numpy(), backdrop))
        return out


class SharedRenderer:
    """Several frames at once, together with those of other talkers of this process.

    Args:
        head: on the device of the backend.
        K: [3, 3].
        size: pixels.
        backend: render backend.
    """

    frames_at_once = FRAME_RATE  # a second of sound: what a call costs in Python is shared by its frames

    def __init__(self, head: TalkingHead, K: Tensor, size: int, *, backend: str):
        self._device, self._scheduler = device_of(backend), scheduler_of(backend)
        self._client = Client(BatchedHead(head), K.to(self._device), size)

    @property
    def num_bytes(self) -> int:
        """Memory taken beside the head's own parameters."""
        return self._client.head.num_bytes

    def render(self, conditions: FrameConditions) -> RenderOutput:
        """See :meth:`BakedRenderer.render`."""
        return RenderOutput(*(values[0] for values in self._scheduler.render(self._client, conditions.at(None))))

    def pictures(self, frames: FrameConditions, backdrop: np.ndarray | None) -> list[np.ndarray]:
        """See :meth:`BakedRenderer.pictures`."""
        output = self._scheduler.render(self._client, frames)
        with timed("composite"):
            behind = None if backdrop is None else torch.from_numpy(np.ascontiguousarray(backdrop)).to(self._device)
            return list(finish_pictures(output.colors[:, 0], output.alphas[:, 0], behind).cpu().numpy())
