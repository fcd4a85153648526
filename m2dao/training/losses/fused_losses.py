"""Pixel-wise loss terms on a CPU: composite, weighted L1 and silhouettes, one pass each way.

``losses.pixel_losses_reference`` defines what is correct.
Shapes: H x W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from m2dao.kernels.compiled import helper, kernel, warms_up
from m2dao.kernels.simd import fetch_add
from m2dao.kernels.threads import share_out
from m2dao.training.frames.targets import FrameTarget
from m2dao.training.losses.ssim import dssim_loss
from m2dao.training.losses.terms import PixelLosses
from m2dao.training.recipes import LossWeights

_ROWS = 32  # of one piece of work
_ROWS_PER_THREAD = 128
_L1, _HEAD, _PERSON, _SQUARES = range(4)  # columns of the partial sums


def pixel_losses(
    colors: Tensor, alphas: Tensor, target: FrameTarget, weights: LossWeights, *, has_torso: bool
) -> PixelLosses:
    """``losses.pixel_losses_reference``, whose arguments these are."""
    num_pixels = alphas.numel()
    scales = (
        (1 - weights.dssim) / (3 * num_pixels),
        weights.head_mask / num_pixels,
        weights.person_mask / num_pixels if has_torso else 0.0,
    )
    composite, loss, mse = _Pixels.apply(colors, alphas, target, weights.roi_emphasis, scales)
    return PixelLosses(loss + weights.dssim * 2 * dssim_loss(composite, target.rgb), composite, float(mse))


class _Pixels(torch.autograd.Function):
    @staticmethod
    def forward(ctx, colors, alphas, target, emphasis, scales):
        height, width = alphas.shape[:2]
        composite = torch.empty(height, width, 3)
        sums = np.zeros((-(-height // _ROWS), 4))
        arrays = [value.detach().contiguous().numpy() for value in (colors, alphas[..., 0], *target)]
        ctx.arrays, ctx.emphasis, ctx.scales = arrays, np.float32(emphasis), np.float32(scales)
        ctx.composite = composite.detach()  # an output kept as it is would keep this operation, for ever
        share_out(
            _forward, *arrays, ctx.emphasis, composite.numpy(), sums, max_threads=max(1, height // _ROWS_PER_THREAD)
        )
        total = sums.sum(axis=0)
        ctx.set_materialize_grads(False)
        mse = torch.tensor(total[_SQUARES] / composite.numel())
        ctx.mark_non_differentiable(mse)
        return composite, torch.tensor(float(total[:_SQUARES] @ np.array(scales)), dtype=torch.float32), mse

    @staticmethod
    @once_differentiable
    def backward(ctx, v_composite, v_loss, _):
        colors, alphas, *_ = ctx.arrays
        v_colors, v_alphas = np.empty_like(colors), np.empty_like(alphas)
        share_out(
            _backward,
            *ctx.arrays,
            ctx.emphasis,
            ctx.composite.numpy(),
            v_composite.contiguous().numpy(),
            ctx.scales * np.float32(v_loss),
            v_colors,
            v_alphas,
            max_threads=max(1, len(alphas) // _ROWS_PER_THREAD),
        )
        return torch.from_numpy(v_colors), torch.from_numpy(v_alphas)[..., None], None, None, None


@helper(inline="always")
def _sign(value):
    return np.float32(1.0) if value > 0 else (np.float32(-1.0) if value < 0 else np.float32(0.0))


@kernel()
def _forward(
    queue,  # int64 [1] next piece of rows
    colors,  # float32 [H, W, 4]
    alphas,  # float32 [H, W]
    rgb,  # float32 [H, W, 3] target
    masks,  # float32 [H, W, 4] facial, oral, head, torso
    behind,  # float32 [H, W, 3]
    roi_weight,  # float32 [H, W]
    emphasis,
    composite,  # out float32 [H, W, 3]
    sums,  # out float64 [ceil(H / ROWS), 4]
):
    """Composite, and sums of weighted absolute errors, of both silhouettes' errors and of squared errors."""
    height, width = alphas.shape
    while True:
        piece = fetch_add(queue, 1)
        if piece * _ROWS >= height:
            break
        for row in range(piece * _ROWS, min((piece + 1) * _ROWS, height)):
            l1 = head = person = squares = np.float32(0.0)  # of one row: few enough for a short mantissa
            for x in range(width):
                through = np.float32(1.0) - alphas[row, x]
                error = np.float32(0.0)
                for k in range(3):
                    value = colors[row, x, k] + through * behind[row, x, k]
                    composite[row, x, k] = value
                    difference = value - rgb[row, x, k]
                    error += abs(difference)
                    squares += difference * difference
                l1 += (np.float32(1.0) + emphasis * roi_weight[row, x]) * error
                in_head = masks[row, x, 0] + masks[row, x, 1] + masks[row, x, 2]
                head += abs(colors[row, x, 3] - in_head)
                person += abs(alphas[row, x] - in_head - masks[row, x, 3])
            sums[piece, _L1] += l1
            sums[piece, _HEAD] += head
            sums[piece, _PERSON] += person
            sums[piece, _SQUARES] += squares


@kernel()
def _backward(
    queue,  # int64 [1] next piece of rows
    colors,  # float32 [H, W, 4]
    alphas,  # float32 [H, W]
    rgb,  # float32 [H, W, 3] target
    masks,  # float32 [H, W, 4]
    behind,  # float32 [H, W, 3]
    roi_weight,  # float32 [H, W]
    emphasis,
    composite,  # float32 [H, W, 3]
    v_composite,  # float32 [H, W, 3]
    scales,  # float32 [3] what one unit of each of the first three sums costs
    v_colors,  # out float32 [H, W, 4]
    v_alphas,  # out float32 [H, W]
):
    """Gradients of what was rendered."""
    height, width = alphas.shape
    while True:
        first = fetch_add(queue, 1) * _ROWS
        if first >= height:
            break
        for row in range(first, min(first + _ROWS, height)):
            for x in range(width):
                weight = scales[_L1] * (np.float32(1.0) + emphasis * roi_weight[row, x])
                hidden = np.float32(0.0)
                for k in range(3):
                    v = v_composite[row, x, k] + weight * _sign(composite[row, x, k] - rgb[row, x, k])
                    v_colors[row, x, k] = v
                    hidden += v * behind[row, x, k]
                in_head = masks[row, x, 0] + masks[row, x, 1] + masks[row, x, 2]
                v_colors[row, x, 3] = scales[_HEAD] * _sign(colors[row, x, 3] - in_head)
                v_alphas[row, x] = scales[_PERSON] * _sign(alphas[row, x] - in_head - masks[row, x, 3]) - hidden


@warms_up
def _measure_nothing() -> None:
    """The losses of sixteen pixels a side, D-SSIM included, forward and backward."""
    colors, alphas = torch.rand(16, 16, 4, requires_grad=True), torch.rand(16, 16, 1, requires_grad=True)
    target = FrameTarget(torch.rand(16, 16, 3), torch.rand(16, 16, 4), torch.rand(16, 16, 3), torch.rand(16, 16))
    pixel_losses(colors, alphas, target, LossWeights(), has_torso=True).loss.backward()
