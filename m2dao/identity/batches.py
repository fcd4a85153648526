"""Several frames posed at once in plain PyTorch: what a GPU wants, and what the kernels of ``bake.py`` are compared with.

A :class:`BatchedHead` is one talking head; a :class:`HeadStack` holds heads of several people side by side, filled up to one
size with Gaussians that nobody sees, and poses frames of any of them together.
Shapes: B frames, S places in a stack, N Gaussians of all groups.
"""

from __future__ import annotations

import copy
import weakref

import torch
from torch import Tensor, nn

from m2dao.gaussians.params import GaussianParams
from m2dao.gaussians.rotations import quat_from_matrix
from m2dao.motion.talking_head import FrameDrive, StaticFeatures, TalkingHead
from m2dao.motion.torso import pose_features

_ROOM = 2048  # Gaussians by which the groups of a stack grow, so that few newcomers make it move
_UNSEEN = {"quats": 1.0, "scales": -10.0, "opacities": -30.0}  # raw values of Gaussians that fill up; the others are zero


class BatchedHead:
    """A talking head that no longer learns.

    Args:
        head: the model, on the device that renders.
        reference_viewmat: [4, 4] the pose at which its torso is canonical, on the CPU.
    """

    @torch.no_grad()
    def __init__(self, head: TalkingHead, reference_viewmat: Tensor):
        self.head, self._reference = head, reference_viewmat
        self.device = head.head_box.device
        self._static = head.static_features()  # constant for the life of the talker

    @property
    def num_bytes(self) -> int:
        """Memory taken beside the head's own parameters."""
        return sum(value.numel() * value.element_size() for value in self._static if value is not None)

    def ready(self, drive: FrameDrive) -> FrameDrive:
        """A frame with what a GPU would else be asked for number by number; on the CPU."""
        return drive._replace(
            view_quat=quat_from_matrix(drive.viewmat[:3, :3]),
            torso_pose=pose_features(drive.viewmat, drive.slow_viewmat, self._reference),
        )

    @torch.no_grad()
    def pose(self, drives: list[FrameDrive]) -> tuple[Tensor, ...]:
        """Means, quaternions, scales, opacities and colours in camera space, each [B, N, ...].

        Args:
            drives: of the frames, on the CPU.
        """
        together, dimensions = _pack([self.ready(drive) for drive in drives])
        return torch.vmap(self._pose_one, in_dims=(dimensions,))(together.to(self.device))

    def _pose_one(self, drive: FrameDrive) -> tuple[Tensor, ...]:
        return tuple(self.head.pose(drive, self._static)[:5])


class HeadStack:
    """Heads of several people that are alike in everything but their numbers, see :func:`kind_of`.

    Heads are held weakly: the place of one that is gone is given to the next that comes.
    """

    def __init__(self):
        self._places: list[weakref.ref[BatchedHead]] = []
        self._sizes: dict[str, int] = {}  # Gaussians there is room for, by group
        self._state: dict[str, Tensor] = {}  # [S, ...] parameters and buffers, by name
        self._static: list[Tensor | None] = []  # [S, ...] features, in the order of ``StaticFeatures``
        self._poser: _Poser | None = None

    @torch.no_grad()
    def pose(self, frames: list[tuple[BatchedHead, FrameDrive]]) -> tuple[Tensor, ...]:
        """The same as :meth:`BatchedHead.pose` for frames of several heads; N is the largest head's and more."""
        places = torch.tensor([self._place_of(head) for head, _ in frames])
        together, dimensions = _pack([head.ready(drive) for head, drive in frames])
        device = frames[0][0].device
        places = places.to(device)
        state = {name: value[places] for name, value in self._state.items()}
        static = StaticFeatures(*(None if value is None else value[places] for value in self._static))
        of_static = StaticFeatures(*(None if value is None else 0 for value in static))
        posing = torch.vmap(self._pose_one, in_dims=(dict.fromkeys(state, 0), dimensions, of_static))
        return posing(state, together.to(device), static)

    def _pose_one(self, state: dict[str, Tensor], drive: FrameDrive, static: StaticFeatures) -> tuple[Tensor, ...]:
        return torch.func.functional_call(self._poser, state, (drive, static))

    def _place_of(self, head: BatchedHead) -> int:
        for place, held in enumerate(self._places):
            if held() is head:
                return place
        sizes = {name: len(group) for name, group in head.head.groups.items()}
        free = [place for place, held in enumerate(self._places) if held() is None]
        if not free or any(num > self._sizes.get(name, 0) for name, num in sizes.items()):
            return self._rebuild(head, sizes)
        self._put(free[0], head)
        return free[0]

    def _rebuild(self, newcomer: BatchedHead, sizes: dict[str, int]) -> int:
        """Larger tensors for everyone who is still there and the newcomer, with as much room again."""
        heads = [head for held in self._places if (head := held()) is not None] + [newcomer]
        self._sizes = {name: max(-(-num // _ROOM) * _ROOM, self._sizes.get(name, 0)) for name, num in sizes.items()}
        num_places = 2 * len(heads)
        filled = _Poser(_filled_up(newcomer.head, self._sizes))
        self._poser = filled
        self._state = {name: value.expand(num_places, *value.shape).clone() for name, value in _state_of(filled).items()}
        self._static = [
            None if value is None else value.expand(num_places, *value.shape).clone()
            for value in filled.head.static_features()
        ]
        self._places = [_nobody] * num_places
        for place, head in enumerate(heads):
            self._put(place, head)
        return len(heads) - 1

    def _put(self, place: int, head: BatchedHead) -> None:
        filled = _Poser(_filled_up(head.head, self._sizes))
        for name, value in _state_of(filled).items():
            self._state[name][place] = value
        for all_places, value in zip(self._static, filled.head.static_features(), strict=True):
            if value is not None:
                all_places[place] = value
        self._places[place] = weakref.ref(head)


def kind_of(head: TalkingHead) -> tuple:
    """What heads must have in common to be posed together: how they are made and all sizes but the numbers of Gaussians."""
    shapes = [
        (name, tuple(value.shape[name.startswith("groups.") :]))
        for name, value in (*head.named_parameters(), *head.named_buffers())
    ]
    return (head.config, *shapes)


def _nobody() -> None:
    return None


class _Poser(nn.Module):
    """``TalkingHead.pose`` as a module's own call, which is what parameters can be given to."""

    def __init__(self, head: TalkingHead):
        super().__init__()
        self.head = head

    def forward(self, drive: FrameDrive, static: StaticFeatures) -> tuple[Tensor, ...]:
        return tuple(self.head.pose(drive, static)[:5])


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


def _pack(drives: list[FrameDrive]) -> tuple[FrameDrive, FrameDrive]:
    """Frames with a dimension of their own in front, and that dimension for ``vmap``."""
    together = FrameDrive(*(None if values[0] is None else torch.stack(values) for values in zip(*drives, strict=True)))
    return together, FrameDrive(*(None if value is None else 0 for value in together))
