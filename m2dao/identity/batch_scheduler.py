"""Renders together the frames that several threads ask for.

A GPU draws frames of many people in little more time than one frame of one person. A thread that asks while nobody
renders is served at once. Threads that ask meanwhile wait, and the next call serves all of them. So a lone stream never
waits, and batches grow with the number of streams.
Shapes: B frames of one request.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from m2dao.identity.batches import BatchedHead, HeadStack, join_frames, kind_of
from m2dao.motion.talking_head import FrameConditions
from m2dao.render.api import render
from m2dao.render.types import RenderOutput
from m2dao.stages import timed

_MOST_FRAMES = 64  # of one call


@dataclass(frozen=True, eq=False)
class Client:
    """One identity whose frames are scheduled.

    Args:
        head: what is posed.
        K: [3, 3] on the head's device.
        size: pixels.
    """

    head: BatchedHead
    K: Tensor
    size: int

    @functools.cached_property
    def kind(self) -> tuple:
        """What clients must have in common to be rendered by one call."""
        return (self.size, *kind_of(self.head.head))


@dataclass(eq=False)
class _Request:
    """Frames of one client that somebody waits for."""

    client: Client
    frames: FrameConditions
    output: RenderOutput | None = None
    error: BaseException | None = None
    done: bool = False

    def __post_init__(self):
        self.num_frames = len(self.frames.viewmat)
        absent = tuple(value is None for value in self.frames)
        self.kind = (self.client.kind, absent)  # of requests that one call can serve


class BatchScheduler:
    """All identities of a process that one device renders; safe to use from several threads.

    Args:
        backend: render backend.
    """

    def __init__(self, backend: str):
        self._backend = backend
        self._turn = threading.Condition()  # guards the next two
        self._waiting: list[_Request] = []
        self._busy = False
        self._stacks: dict[tuple, HeadStack] = {}

    def render(self, client: Client, frames: FrameConditions) -> RenderOutput:
        """Frames of one identity, perhaps in one call with others'.

        Args:
            frames: B of them, on the CPU.

        Returns:
            colors [B, 1, H, W, 4] premultiplied RGB and visible head alpha; alphas [B, 1, H, W, 1].
        """
        request = _Request(client, frames)
        with self._turn:
            self._waiting.append(request)
        while not request.done:
            with self._turn:
                self._turn.wait_for(lambda: request.done or not self._busy)
                if request.done:
                    break
                requests, self._busy = self._next_requests(), True
            try:
                self._serve(requests)
            finally:
                with self._turn:
                    self._busy = False
                    self._turn.notify_all()
        if request.error is not None:
            error, request.error = request.error, None  # its traceback holds this frame
            raise error
        assert request.output is not None
        return request.output

    def _next_requests(self) -> list[_Request]:
        """Those who came first, of one kind, up to what one call may hold."""
        chosen: list[_Request] = []
        num_frames = 0
        for request in self._waiting:
            fits = not chosen or num_frames + request.num_frames <= _MOST_FRAMES
            if fits and request.kind == self._waiting[0].kind:
                chosen.append(request)
                num_frames += request.num_frames
        self._waiting = [request for request in self._waiting if request not in chosen]
        return chosen

    def _serve(self, requests: list[_Request]) -> None:
        """Render together; after an error each request is tried alone, so that only its cause sees it."""
        several_failed = False
        try:
            output = self._render_together(requests)
            first = 0
            for request in requests:
                request.output = RenderOutput(*(value[first : first + request.num_frames] for value in output))
                first += request.num_frames
        except BaseException as error:
            several_failed = len(requests) > 1 and isinstance(error, Exception)
            for request in requests:
                request.error = None if several_failed else error
        if several_failed:
            for request in requests:
                self._serve([request])
        for request in requests:
            request.done = True

    @torch.no_grad()
    def _render_together(self, requests: list[_Request]) -> RenderOutput:
        clients = {id(request.client): request.client for request in requests}
        size = requests[0].client.size
        self._stacks = {kind: stack for kind, stack in self._stacks.items() if stack.num_heads}
        with timed("motion"):
            if len(clients) == 1:
                posed = requests[0].client.head.pose(join_frames([request.frames for request in requests]))
            else:
                stack = self._stacks.setdefault(requests[0].client.kind, HeadStack())
                posed = stack.pose([(request.client.head, request.frames) for request in requests])
        Ks = torch.cat([request.client.K.expand(request.num_frames, 1, 3, 3) for request in requests])
        cameras = torch.eye(4, device=Ks.device).expand(len(Ks), 1, 4, 4)
        means, quats, scales, opacities, colors = posed
        return render(
            means, quats, scales, opacities, colors, cameras, Ks, width=size, height=size, backend=self._backend
        )


_schedulers: dict[str, BatchScheduler] = {}
_making = threading.Lock()


def scheduler_of(backend: str) -> BatchScheduler:
    """The scheduler of this process on a backend's device."""
    with _making:
        return _schedulers.setdefault(backend, BatchScheduler(backend))
