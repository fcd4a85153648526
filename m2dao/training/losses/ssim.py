"""Structural dissimilarity as a loss on a CPU: value and gradient in two passes.

SSIM (Wang et al., 2004) with the 11 x 11 Gaussian window of sigma 1.5; outside the image counts as zero, as in the
losses of Gaussian splatting. ``ssim_map_reference`` in plain PyTorch defines what is correct; the kernels below are its
fast twin.

Shapes: H rows, W columns, C channels. The kernels see a row as W * C interleaved values, so that neighbours in a row
are C apart, and take eight values at a time with all taps in registers. Rows of the work arrays have 5 C zeros on both
sides and are a multiple of eight long.
"""

from __future__ import annotations

import threading
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from m2dao.errors import InputError
from m2dao.kernels.compiled import helper, kernel
from m2dao.kernels.simd import LANES, divide8, load8, splat8, store8, sum8
from m2dao.kernels.threads import call_together, get_num_threads

RADIUS = 5
SIGMA = 1.5
C1 = 0.01**2  # for values in 0..1
C2 = 0.03**2

_taps = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
# Global tuples are constants to the compiler, which can then unroll and vectorise.
TAPS = tuple(float(tap) for tap in (_taps / _taps.sum()).astype(np.float32))
NUM_TAPS = len(TAPS)
NUM_MAPS = 5  # filtered x, y, x^2, y^2, x y
ROWS_PER_THREAD = 192  # below about 2 ms of work, waking another thread costs as much as it saves
NUM_PARTIALS = 3  # derivatives by the filtered x, x^2 and x y


def dssim_loss(image: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """(1 - SSIM) / 2, averaged.

    Args:
        image: [H, W, C] float32, values about 0..1; the gradient flows to it.
        target: [H, W, C] float32; no gradient.
        weights: [H, W] float32 >= 0, the weight of each pixel in the average; all equal if None.

    Returns:
        Scalar in 0..1; 0 for equal images.

    Raises:
        InputError: shapes that differ, or a target that asks for a gradient.
    """
    if image.ndim != 3 or image.shape != target.shape:
        raise InputError("D-SSIM", "two images [H, W, C] of one shape", f"{list(image.shape)}, {list(target.shape)}")
    if weights is not None and weights.shape != image.shape[:2]:
        raise InputError("D-SSIM weights", f"shape {list(image.shape[:2])}", str(list(weights.shape)))
    if target.requires_grad:
        raise InputError("D-SSIM target", "a constant", "a tensor that requires a gradient", "detach it")
    if image.device.type == "cpu" and image.dtype == torch.float32:
        return _FastDssim.apply(image, target, weights)
    return dssim_loss_reference(image, target, weights)


def dssim_loss_reference(image: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """``dssim_loss`` in plain PyTorch, for any device and dtype."""
    dissimilarity = (1 - ssim_map_reference(image, target)).mean(dim=2) / 2
    if weights is None:
        return dissimilarity.mean()
    return (dissimilarity * weights).sum() / weights.sum().clamp_min(1e-8)


def ssim_map_reference(image: Tensor, target: Tensor) -> Tensor:  # two of [H, W, C] -> [H, W, C]
    """SSIM of every pixel and channel by five filtered maps."""
    taps = torch.tensor(TAPS, dtype=image.dtype, device=image.device)
    stack = torch.stack([image, target, image * image, target * target, image * target])  # [5, H, W, C]
    height, width = image.shape[:2]
    maps = stack.permute(0, 3, 1, 2).reshape(-1, 1, height, width)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # variances are small differences of these
        maps = torch.nn.functional.conv2d(maps, taps.view(1, 1, -1, 1), padding=(RADIUS, 0))
        maps = torch.nn.functional.conv2d(maps, taps.view(1, 1, 1, -1), padding=(0, RADIUS))
    mean_x, mean_y, square_x, square_y, product = maps.view(5, -1, height, width).permute(0, 2, 3, 1)
    variance_x, variance_y = square_x - mean_x**2, square_y - mean_y**2
    covariance = product - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return numerator / ((mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2))


class _FastDssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        needs_gradient = ctx.needs_input_grad[0]
        values = weights.detach().contiguous().numpy() if weights is not None else None
        loss, gradient = _dssim_and_gradient(
            image.detach().contiguous().numpy(), target.detach().contiguous().numpy(), values, needs_gradient
        )
        if needs_gradient:
            ctx.save_for_backward(torch.from_numpy(gradient))
        return torch.tensor(loss, dtype=torch.float32)

    @staticmethod
    def backward(ctx, grad_loss: Tensor):
        (gradient,) = ctx.saved_tensors
        return gradient * grad_loss, None, None


class _WorkArrays:
    """Zero-bordered arrays for one image shape; fresh memory costs more than the arithmetic on it."""

    def __init__(self, height: int, width: int, channels: int):
        self.num_values = width * channels
        self.edge = RADIUS * channels
        self.num_vector_values = _round_up(self.num_values)
        self.stride = _round_up(self.num_vector_values + 2 * self.edge)
        rows = height + 2 * RADIUS
        self.x = np.zeros((rows, self.stride), np.float32)
        self.y = np.zeros((rows, self.stride), np.float32)
        self.partials = np.zeros((NUM_PARTIALS, rows, self.stride), np.float32)
        self.weights = np.zeros((height, self.num_vector_values), np.float32)
        self.gradient = np.zeros((height, self.num_vector_values), np.float32)
        self.row_sums = np.zeros(height, np.float64)

    def fill(self, image: np.ndarray, target: np.ndarray, pixel_weights: np.ndarray | float) -> None:
        height = len(image)
        inside = slice(self.edge, self.edge + self.num_values)
        self.x[RADIUS:-RADIUS, inside] = image.reshape(height, -1)
        self.y[RADIUS:-RADIUS, inside] = target.reshape(height, -1)
        if isinstance(pixel_weights, np.ndarray):
            pixel_weights = np.repeat(pixel_weights, image.shape[2], axis=1)
        self.weights[:, : self.num_values] = pixel_weights


_kept = threading.local()  # two threads must not share work arrays


def _work_arrays(shape: tuple[int, int, int]) -> _WorkArrays:
    if getattr(_kept, "shape", None) != shape:
        _kept.arrays = _WorkArrays(*shape)
        _kept.shape = shape
    return _kept.arrays


def _round_up(count: int) -> int:
    return -(-count // LANES) * LANES


def _dssim_and_gradient(
    image: np.ndarray, target: np.ndarray, weights: np.ndarray | None, needs_gradient: bool
) -> tuple[float, np.ndarray | None]:
    height, _, channels = image.shape
    if weights is None:
        pixel_weights, weight_sum = 1.0 / image.size, 1.0
    else:
        total = weights.sum(dtype=np.float64)
        pixel_weights = (weights / (max(float(total), 1e-8) * channels)).astype(np.float32)
        weight_sum = float(total) / max(float(total), 1e-8)
    work = _work_arrays(image.shape)
    work.fill(image, target, pixel_weights)

    def forward(first: int, last: int) -> None:
        _ssim_rows(
            work.x.ravel(),
            work.y.ravel(),
            work.weights.ravel(),
            channels,
            work.stride,
            work.num_vector_values,
            first,
            last,
            work.partials[0].ravel(),
            work.partials[1].ravel(),
            work.partials[2].ravel(),
            work.row_sums,
            needs_gradient,
        )

    _over_rows(forward, height)
    loss = (weight_sum - float(work.row_sums.sum())) / 2
    if not needs_gradient:
        return loss, None

    def backward(first: int, last: int) -> None:
        _gradient_rows(
            work.x.ravel(),
            work.y.ravel(),
            work.partials[0].ravel(),
            work.partials[1].ravel(),
            work.partials[2].ravel(),
            channels,
            work.stride,
            work.num_vector_values,
            first,
            last,
            work.gradient.ravel(),
        )

    _over_rows(backward, height)
    return loss, work.gradient[:, : work.num_values].reshape(image.shape).copy()


def _over_rows(task, height: int) -> None:
    """Run ``task(first, last)`` over ranges of rows on as many threads as kernels may use."""
    num_pieces = max(1, min(get_num_threads(), height // ROWS_PER_THREAD))
    bounds = [height * k // num_pieces for k in range(num_pieces + 1)]
    call_together([partial(task, first, last) for first, last in pairwise(bounds)])


@kernel(fastmath=True)
def _ssim_rows(
    x,
    y,
    weights,
    channels,
    stride,
    num_vector_values,
    first,
    last,
    by_mean,
    by_square,
    by_product,
    row_sums,
    needs_gradient,
):
    """Weighted sums of SSIM of rows ``first..last - 1``, and its derivatives by the image's three maps."""
    down = np.empty(NUM_MAPS * stride, np.float32)
    edge = RADIUS * channels
    one, two, minus = splat8(1.0), splat8(2.0), splat8(-1.0)
    c1, c2 = splat8(C1), splat8(C2)
    for row in range(first, last):
        _moments_down(x, y, row, stride, down)
        total = splat8(0.0)
        for i in range(0, num_vector_values, LANES):
            mx = my = square_x = square_y = product = splat8(0.0)
            for k in range(NUM_TAPS):
                tap = splat8(TAPS[k])
                at = i + k * channels
                mx = mx + tap * load8(down, at)
                my = my + tap * load8(down, at + stride)
                square_x = square_x + tap * load8(down, at + 2 * stride)
                square_y = square_y + tap * load8(down, at + 3 * stride)
                product = product + tap * load8(down, at + 4 * stride)
            a1 = two * mx * my + c1
            a2 = two * (product - mx * my) + c2
            b1 = mx * mx + my * my + c1
            b2 = (square_x - mx * mx) + (square_y - my * my) + c2
            inverse = divide8(one, b1 * b2)
            ssim = a1 * a2 * inverse
            weight = load8(weights, row * num_vector_values + i)
            total = total + weight * ssim
            if needs_gradient:
                # b1 * b2 * inverse = 1 turns the divisions by b1 and b2 into products.
                by_b1 = ssim * b2 * inverse
                by_b2 = ssim * b1 * inverse
                at = (row + RADIUS) * stride + edge + i
                store8(by_mean, at, weight * two * (my * (a2 - a1) * inverse - mx * (by_b1 - by_b2)))
                store8(by_square, at, minus * weight * by_b2)
                store8(by_product, at, weight * two * a1 * inverse)
        row_sums[row] = sum8(total)


@kernel(fastmath=True)
def _gradient_rows(x, y, by_mean, by_square, by_product, channels, stride, num_vector_values, first, last, gradient):
    """Gradient of the loss by the image: the filter is symmetric and so its own adjoint."""
    down = np.empty(NUM_PARTIALS * stride, np.float32)
    edge = RADIUS * channels
    half, two = splat8(-0.5), splat8(2.0)
    for row in range(first, last):
        for i in range(0, stride, LANES):
            mean = square = product = splat8(0.0)
            for k in range(NUM_TAPS):
                tap = splat8(TAPS[k])
                at = (row + k) * stride + i
                mean = mean + tap * load8(by_mean, at)
                square = square + tap * load8(by_square, at)
                product = product + tap * load8(by_product, at)
            store8(down, i, mean)
            store8(down, i + stride, square)
            store8(down, i + 2 * stride, product)
        for i in range(0, num_vector_values, LANES):
            mean = square = product = splat8(0.0)
            for k in range(NUM_TAPS):
                tap = splat8(TAPS[k])
                at = i + k * channels
                mean = mean + tap * load8(down, at)
                square = square + tap * load8(down, at + stride)
                product = product + tap * load8(down, at + 2 * stride)
            at = (row + RADIUS) * stride + edge + i
            slope = mean + two * load8(x, at) * square + load8(y, at) * product
            store8(gradient, row * num_vector_values + i, half * slope)


@helper(fastmath=True)
def _moments_down(x, y, row, stride, down):
    """x, y, x^2, y^2 and x y of one row, filtered along the columns, one after the other in ``down``."""
    for i in range(0, stride, LANES):
        sum_x = sum_y = square_x = square_y = product = splat8(0.0)
        for k in range(NUM_TAPS):
            tap = splat8(TAPS[k])
            at = (row + k) * stride + i
            value_x, value_y = load8(x, at), load8(y, at)
            tapped_x, tapped_y = tap * value_x, tap * value_y
            sum_x = sum_x + tapped_x
            sum_y = sum_y + tapped_y
            square_x = square_x + tapped_x * value_x
            square_y = square_y + tapped_y * value_y
            product = product + tapped_x * value_y
        store8(down, i, sum_x)
        store8(down, i + stride, sum_y)
        store8(down, i + 2 * stride, square_x)
        store8(down, i + 3 * stride, square_y)
        store8(down, i + 4 * stride, product)
