"""Poses several frames at once in plain PyTorch, for a GPU and as reference of ``baked.py``.

A :class:`BatchedHead` is one talking head. A :class:`HeadStack` holds heads of several people side by side, padded to
one size with Gaussians that nobody sees, and poses frames of any of them together.
Shapes: B frames, S places in a stack, N Gaussians of all groups.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn

from m2dao.gaussians.params import GaussianParams
from m2dao.gaussians.rotations import quat_from_matrix
from m2dao.motion.talking_head import FrameConditions, StaticFeatures, TalkingHead

_ROOM = 2048  # Gaussians by which the groups of a stack grow, so that few newcomers make it move
_UNSEEN = {
    "quats": 1.0,
    "scales": -10.0,
    "opacities": -30.0,
}  # raw values of Gaussians that fill up; the others are zero


class BatchedHead:
    """A talking head that no longer learns.

    Args:
        head: the model, on the device that renders.
    """

    @torch.no_grad()
    def __init__(self, head: TalkingHead):
        self.head = head
        self.device = head.head_box.device
        self._static = head.static_features()  # constant for the life of the talker

    @property
    def num_bytes(self) -> int:
        """Memory taken beside the head's own parameters, two places in a stack included."""
        own = sum(value.nbytes for value in self._static.values())
        return own + 2 * (own + sum(value.nbytes for value in _state_of(self.head).values()))

    @torch.no_grad()
    def pose(self, frames: FrameConditions) -> tuple[Tensor, ...]:
        """Means, quaternions, scales, opacities and colours in camera space, each [B, N, ...].

        Args:
            frames: B of them, on the CPU.
        """
        return tuple(self.head.pose(_ready(frames).to(self.device), self._static)[:5])


class HeadStack:
    """Heads of several people that are alike in everything but their numbers, see :func:`kind_of`.

    Heads are held weakly: the place of one that is gone is given to the next that comes.
    """

    def __init__(self):
        self._places: list[Callable[[], BatchedHead | None]] = []  # weak references
        self._sizes: dict[str, int] = {}  # Gaussians there is room for, by group
        self._state: dict[str, Tensor] = {}  # [S, ...] parameters and buffers, by name
        self._static: StaticFeatures = {}  # [S, ...]
        self._poser: _Poser | None = None

    @property
    def num_heads(self) -> int:
        """How many of its heads are still there."""
        return sum(held() is not None for held in self._places)

    @torch.no_grad()
    def pose(self, requests: list[tuple[BatchedHead, FrameConditions]]) -> tuple[Tensor, ...]:
        """The same as :meth:`BatchedHead.pose` for frames of several heads; N is the largest head's and more."""
        self._seat(list({id(head): head for head, _ in requests}.values()))
        held = {id(head): place for place, reference in enumerate(self._places) if (head := reference()) is not None}
        device = requests[0][0].device
        whose = [held[id(head)] for head, frames in requests for _ in range(len(frames.viewmat))]
        places = torch.tensor(whose).to(device)
        frames = _ready(join_frames([frames for _, frames in requests]))
        state = {name: value[places] for name, value in self._state.items()}
        static = {part: value[places] for part, value in self._static.items()}
        assert self._poser is not None
        return torch.func.functional_call(self._poser, state, (frames.to(device), static))

    def _seat(self, heads: list[BatchedHead]) -> None:
        """Give a place to all of these who have none; everybody may be moved for it."""
        living = [head for held in self._places if (head := held()) is not None]
        newcomers = [head for head in heads if all(head is not other for other in living)]
        free = [place for place, held in enumerate(self._places) if held() is None]
        small = all(num <= self._sizes.get(name, 0) for head in newcomers for name, num in _sizes_of(head).items())
        if len(newcomers) <= len(free) and small and len(self._places) <= 4 * len(living + newcomers):
            for place, head in zip(free, newcomers, strict=False):
                self._put(place, head)
        else:
            self._rebuild(living + newcomers)

    def _rebuild(self, heads: list[BatchedHead]) -> None:
        """Tensors that fit these heads, with as much room again."""
        # If memory runs out from here on, the next call begins anew.
        self._places, self._state, self._static = [], {}, {}
        self._sizes = {
            name: max(-(-_sizes_of(head)[name] // _ROOM) * _ROOM for head in heads) for name in heads[0].head.groups
        }
        num_places = 2 * len(heads)
        self._poser = _Poser(_filled_up(heads[0].head, self._sizes))
        state = {name: value.new_empty((num_places, *value.shape)) for name, value in _state_of(self._poser).items()}
        self._static = {
            part: value.new_empty((num_places, *value.shape))
            for part, value in self._poser.head.static_features().items()
        }
        self._state = state
        self._places = [_nobody] * num_places
        for place, head in enumerate(heads):
            self._put(place, head)

    def _put(self, place: int, head: BatchedHead) -> None:
        filled = _Poser(_filled_up(head.head, self._sizes))
        for name, value in _state_of(filled).items():
            self._state[name][place] = value
        for part, value in filled.head.static_features().items():
            self._static[part][place] = value
        self._places[place] = weakref.ref(head)


def kind_of(head: TalkingHead) -> tuple:
    """What heads must share to be posed together: their making, and sizes but those of Gaussians."""
    shapes = [(name, tuple(value.shape[name.startswith("groups.") :])) for name, value in _state_of(head).items()]
    return (head.config, *shapes)


def _sizes_of(head: BatchedHead) -> dict[str, int]:
    return {name: len(group) for name, group in head.head.groups.items()}


def _nobody() -> None:
    return None


class _Poser(nn.Module):
    """``TalkingHead.pose`` as a module's own call, which is what parameters can be given to."""

    def __init__(self, head: TalkingHead):
        super().__init__()
        self.head = head

    def forward(self, conditions: FrameConditions, static: StaticFeatures) -> tuple[Tensor, ...]:
        return tuple(self.head.pose(conditions, static)[:5])


def _state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}


def _filled_up(head: TalkingHead, sizes: dict[str, int]) -> TalkingHead:
    """A copy with as many Gaussians in each group as asked for."""
    filled = copy.deepcopy(head)
    for name, group in head.groups.items():
        missing = sizes[name] - len(group)
        tensors = {
            key: torch.cat([value, value.new_full((missing, *value.shape[1:]), _UNSEEN.get(key, 0))])
            for key, value in group.tensors().items()
        }
        filled.groups[name] = GaussianParams.from_tensors(tensors, source=name)
    return filled


def join_frames(parts: list[FrameConditions]) -> FrameConditions:
    """Frames [B, ...] of several requests one after the other; what one leaves out, all leave out."""
    together = (None if values[0] is None else torch.cat(values) for values in zip(*parts, strict=True))
    return parts[0] if len(parts) == 1 else FrameConditions._make(together)


def _ready(frames: FrameConditions) -> FrameConditions:
    """Frames on the CPU with what a GPU would else be asked for number by number."""
    if frames.view_quat is not None:
        return frames
    return frames._replace(view_quat=quat_from_matrix(frames.viewmat[..., :3, :3]))
