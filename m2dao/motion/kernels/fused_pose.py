"""``TalkingHead.pose`` for training on a CPU: one autograd function over compiled kernels.

It gives the values and the gradients of ``TalkingHead.pose``, which defines what is correct and serves everywhere else.
Shapes: N Gaussians of all groups, n of one, H hidden features, G code groups.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from m2dao.gaussians.params import RAW_NAMES, activated
from m2dao.gaussians.sh import sh_colors
from m2dao.kernels.compiled import warms_up
from m2dao.kernels.simd import LANES
from m2dao.kernels.threads import CHUNK
from m2dao.motion.factored import NUM_OUTPUTS, FieldMotion
from m2dao.motion.kernels import motion_kernel, pose_gradients
from m2dao.motion.kernels.motion_kernel import NUM_COLUMNS
from m2dao.motion.kernels.moving import add_up, flat, share_gaussians, within_limits
from m2dao.motion.kernels.posing import TorsoMotion, View, pose_groups, torso_affines, view_of
from m2dao.motion.talking_head import FrameConditions, PosedGaussians, StaticFeatures, TalkingHead

_NUM_INPUTS = len(RAW_NAMES) + 1  # of each group


def fused_pose(
    head: TalkingHead, conditions: FrameConditions, static: StaticFeatures | None, *, moving: bool = True
) -> PosedGaussians:
    """``head.pose(conditions, static, moving=moving)``; arguments are described there."""
    motions: dict[str, tuple[FieldMotion, ...]] = {}
    if moving:
        assert static is not None
        motions = head.motions(conditions, static)
    inputs = []
    for name, group in head.groups.items():
        delta = _delta(motions[name]) if moving else torch.zeros(len(group), NUM_COLUMNS)
        inputs += [*(group.raw[raw_name] for raw_name in RAW_NAMES), delta]
    view = view_of(conditions)
    if head.torso is None:
        means, quats, scales, opacities, colors, _ = _Pose.apply(view, None, *inputs)
        return PosedGaussians(means, quats, scales, opacities, colors, None)
    rigid, sway = torso_affines(head, conditions)
    posed = PosedGaussians(*_Pose.apply(view, rigid.numpy(), *inputs, head.groups["torso"].raw["follow"], sway))
    return posed if moving else posed._replace(torso_residual=None)


def _delta(motions: tuple[FieldMotion, ...]) -> Tensor:
    """What moves a group, [N, 16]."""
    total = _total(motions[0])
    for motion in motions[1:]:
        total = total + _total(motion)
    return within_limits(total)


def _total(motion: FieldMotion) -> Tensor:
    """The motion [N, 16]: 13 columns and three of nothing."""
    if motion.matrix is None:
        return torch.nn.functional.pad(motion.features, (0, NUM_COLUMNS - NUM_OUTPUTS))
    return _Move.apply(*motion)


class _Move(torch.autograd.Function):
    """``FieldMotion.total`` of features [N, H + G] and a matrix [G, H, 13], padded to 16 columns."""

    @staticmethod
    def forward(ctx, features, matrix):
        ctx.save_for_backward(features, matrix)
        return add_up((FieldMotion(features, matrix),))

    @staticmethod
    @once_differentiable
    def backward(ctx, v_out):
        features, matrix = ctx.saved_tensors
        num_groups, num_hidden, _ = matrix.shape
        v_features = torch.empty(features.shape)
        v_chunks = torch.empty(-(-len(features) // CHUNK), num_groups * num_hidden * NUM_COLUMNS)
        share_gaussians(
            motion_kernel.move_backward,
            len(features),
            flat(features),
            flat(matrix.transpose(1, 2)),
            num_hidden,
            num_groups,
            flat(v_out),
            flat(v_features),
            v_chunks.numpy(),
        )
        v_matrix = v_chunks.sum(dim=0).view(num_groups, num_hidden, NUM_COLUMNS)[..., :NUM_OUTPUTS]
        return v_features, v_matrix


class _Group(NamedTuple):
    """The inputs of one group."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh0: Tensor
    shN: Tensor
    delta: Tensor  # [n, 16] motion and three columns of nothing


class _Pose(torch.autograd.Function):
    """Inputs of each group in turn, the torso's last if it is there, then the torso's weights and sway."""

    @staticmethod
    def forward(ctx, view, rigid, *tensors):
        has_torso = rigid is not None
        torso_extra = tensors[-2:] if has_torso else ()
        groups = [
            _Group(*tensors[at : at + _NUM_INPUTS]) for at in range(0, len(tensors) - len(torso_extra), _NUM_INPUTS)
        ]
        gaussians, deltas = [activated(group._asdict()) for group in groups], [group.delta for group in groups]
        torso = skinning = sway = None
        if has_torso:
            skinning, sway = torso_extra[0].sigmoid().numpy(), torso_extra[1].numpy()
            colors_at_rest = sh_colors(groups[-1].sh0, groups[-1].shN, groups[-1].means).numpy()
            torso = TorsoMotion(colors_at_rest, skinning, rigid, sway)
        means, quats, scales, colors = pose_groups(gaussians, deltas, view, torso)
        # Joined first: a sigmoid rounds the last elements of a tensor, which fill no vector, otherwise than the rest.
        opacities = torch.cat([group.opacities for group in groups]).sigmoid_()
        sizes = [len(group.means) for group in groups]
        # Detached: what an operation keeps of its own outputs would keep the operation, for ever.
        ctx.kept = view, rigid, groups, sizes, [value.detach() for value in (opacities, scales, colors)], skinning, sway
        ctx.set_materialize_grads(False)
        residual = groups[-1].delta[:, :3].clone() if has_torso else means.new_zeros(0, 3)
        return means, quats, scales, opacities, colors, residual

    @staticmethod
    @once_differentiable
    def backward(ctx, v_means, v_quats, v_scales, v_opacities, v_colors, v_residual):
        view, rigid, groups, sizes, (opacities, scales, colors), skinning, sway = ctx.kept
        v_logits = v_opacities * opacities * (1 - opacities)
        rows = zip(
            *(array.split(sizes) for array in (scales, colors, v_means, v_quats, v_scales, v_colors)), strict=True
        )
        grads: list[Tensor | None] = [None, None]
        for number, (group, v_logit, (posed_scales, posed_colors, *v_posed)) in enumerate(
            zip(groups, v_logits.split(sizes), rows, strict=True)
        ):
            is_torso = rigid is not None and number == len(groups) - 1
            first = 2 + _NUM_INPUTS * number
            if not (any(ctx.needs_input_grad[first : first + _NUM_INPUTS]) or is_torso):
                grads += [None] * _NUM_INPUTS
                continue
            v_raw = [
                torch.empty_like(value) for value in (group.means, group.quats, group.scales, group.sh0, group.shN)
            ]
            v_delta = torch.empty(sizes[number], NUM_COLUMNS)
            given = [value.numpy() for value in (group.means, group.quats, group.sh0, group.shN)]
            posed = [value.contiguous().numpy() for value in (posed_scales, posed_colors, *v_posed)]
            out = [value.numpy() for value in v_raw]
            if is_torso:
                v_field = torch.zeros(sizes[number], 3) if v_residual is None else v_residual.contiguous()
                v_skinning = torch.empty(sizes[number])
                v_sway = torch.empty(-(-sizes[number] // CHUNK), 3, 4)
                share_gaussians(
                    pose_gradients.pose_torso_backward,
                    sizes[number],
                    *given,
                    skinning,
                    rigid,
                    sway,
                    *posed,
                    v_field.numpy(),
                    *out[:4],
                    v_skinning.numpy(),
                    v_delta.numpy(),
                    v_sway.numpy(),
                )
            else:
                share_gaussians(
                    pose_gradients.pose_head_backward, sizes[number], *given, *view, *posed, *out, v_delta.numpy()
                )
            grads += [*v_raw[:3], v_logit, *v_raw[3:], v_delta]
        if rigid is not None:
            grads += [v_skinning, v_sway.sum(dim=0)]
        return tuple(grads)


@warms_up
def _differentiate_one_of_each() -> None:
    """One Gaussian of the head, one of the torso, and what moves them."""
    _Move.apply(
        torch.ones(1, 2 * LANES + 1, requires_grad=True), torch.ones(1, 2 * LANES, NUM_OUTPUTS)
    ).sum().backward()
    view = View(np.eye(4, dtype=np.float32), np.eye(1, 4, dtype=np.float32)[0], np.zeros(3, np.float32))

    def group(num_bases: int) -> list[Tensor]:
        sizes = ((1, 3), (1, 4), (1, 3), (1,), (1, 3), (1, num_bases, 3), (1, NUM_COLUMNS))
        return [torch.ones(size, requires_grad=True) for size in sizes]

    extra = [torch.ones(1, requires_grad=True), torch.ones(3, 4, requires_grad=True)]
    posed = _Pose.apply(view, np.ones((3, 4), np.float32), *group(3), *group(0), *extra)
    sum(value.sum() for value in posed).backward()
