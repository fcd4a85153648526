"""Backend ``cpu``: Numba kernels wired into autograd as two functions, projection and rasterisation.

Between the two lies ``means2d``, a tensor of the graph, so its gradient can be retained for density control.

Threads: kernels run on as many threads as ``torch.get_num_threads()`` says, without the GIL, and may be called from
several threads at once. The OpenMP layer is used because it allows that (Numba's built-in work queue does not); with
PyTorch loaded first it is PyTorch's own OpenMP runtime, so the two share one pool. Where only the work queue is to be
had, calls take turns.
"""

from __future__ import annotations

import contextlib
import math
import threading

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from m2dao.render import cpu_bins, cpu_project, cpu_raster
from m2dao.render.api import Camera, RenderOutput


def render_cpu(
    means: Tensor,  # [..., N, 3]
    quats: Tensor,  # [..., N, 4]
    scales: Tensor,  # [..., N, 3]
    opacities: Tensor,  # [..., N]
    colors: Tensor,  # [..., N, D]
    viewmats: Tensor,  # [..., C, 4, 4]
    Ks: Tensor,  # [..., C, 3, 3]
    camera: Camera,
    backgrounds: Tensor | None = None,  # [..., C, D]
) -> RenderOutput:
    """Backend ``cpu`` of ``api.render``; arguments are checked and broadcast there."""
    means2d, conics, depths, extents, radii = _Project.apply(means, quats, scales, opacities, viewmats, Ks, camera)
    rendered, alphas = _Rasterize.apply(
        means2d, conics, opacities, colors, backgrounds, depths, extents, radii, camera
    )
    return RenderOutput(rendered, alphas, means2d, radii)


def _choose_threading_layer() -> None:
    if numba.config.THREADING_LAYER == "default":  # nobody has chosen one
        numba.config.THREADING_LAYER = "omp"


_choose_threading_layer()
_turns = threading.Lock()


@contextlib.contextmanager
def _threads():
    """Yields the number of threads to use; takes turns where the threading layer is not safe to share."""
    num_threads = max(1, min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    numba.set_num_threads(num_threads)
    if numba.config.THREADING_LAYER == "workqueue":
        with _turns:
            yield num_threads
    else:
        yield num_threads


def _array(tensor: Tensor, *shape: int) -> np.ndarray:
    """A contiguous numpy view (or copy) with this shape."""
    return tensor.detach().contiguous().view(shape).numpy()


class _Project(torch.autograd.Function):
    """Gaussians [..., N, .] and cameras [..., C, .] to projected Gaussians [..., C, N, .]."""

    @staticmethod
    def forward(ctx, means, quats, scales, opacities, viewmats, Ks, camera):
        batch_shape = means.shape[:-2]
        B, N, C = math.prod(batch_shape), means.shape[-2], viewmats.shape[-3]
        inputs = (_array(means, B, N, 3), _array(quats, B, N, 4), _array(scales, B, N, 3))
        flat_opacities = _array(opacities, B, N)
        flat_viewmats = _array(viewmats, B, C, 4, 4).astype(np.float64)
        flat_Ks = _array(Ks, B, C, 3, 3).astype(np.float64)
        shape = (*batch_shape, C, N)
        means2d, conics = means.new_empty(*shape, 2), means.new_empty(*shape, 3)
        depths, extents = means.new_empty(shape), means.new_empty(*shape, 2)
        radii = torch.empty(shape, dtype=torch.int32)
        outputs = (
            means2d.view(B, C, N, 2).numpy(),
            conics.view(B, C, N, 3).numpy(),
            depths.view(B, C, N).numpy(),
            extents.view(B, C, N, 2).numpy(),
            radii.view(B, C, N).numpy(),
        )
        with _threads():
            for b in range(B):
                for c in range(C):
                    cpu_project.project(
                        *(array[b] for array in inputs), flat_opacities[b], flat_viewmats[b, c], flat_Ks[b, c],
                        camera.width, camera.height, camera.near_plane, camera.eps2d,
                        *(array[b, c] for array in outputs),
                    )  # fmt: skip
        ctx.saved = (inputs, flat_viewmats, flat_Ks, outputs[1], outputs[4], camera)
        ctx.shapes = (means.shape, quats.shape, scales.shape, viewmats.shape)
        ctx.mark_non_differentiable(depths, extents, radii)
        ctx.set_materialize_grads(False)
        return means2d, conics, depths, extents, radii

    @staticmethod
    @once_differentiable
    def backward(ctx, v_means2d, v_conics, *_):
        inputs, viewmats, Ks, conics, radii, camera = ctx.saved
        B, C, N = radii.shape
        grads = tuple(torch.zeros(shape) for shape in ctx.shapes[:3])
        arrays = [grad.view(array.shape).numpy() for grad, array in zip(grads, inputs)]
        v_means2d = np.zeros((B, C, N, 2), np.float32) if v_means2d is None else _array(v_means2d, B, C, N, 2)
        v_conics = np.zeros((B, C, N, 3), np.float32) if v_conics is None else _array(v_conics, B, C, N, 3)
        v_viewmats = np.zeros((B, C, 4, 4))
        with _threads():
            for b in range(B):
                for c in range(C):
                    chunks = np.zeros((-(-N // cpu_project.CHUNK), 4, 4))
                    cpu_project.project_backward(
                        *(array[b] for array in inputs), viewmats[b, c], Ks[b, c], camera.width, camera.height,
                        conics[b, c], radii[b, c], v_means2d[b, c], v_conics[b, c], *(array[b] for array in arrays),
                        chunks,
                    )  # fmt: skip
                    v_viewmats[b, c] = chunks.sum(axis=0)
        v_viewmats = torch.from_numpy(v_viewmats.astype(np.float32)).view(ctx.shapes[3])
        return *grads, None, v_viewmats, None, None


class _Rasterize(torch.autograd.Function):
    """Projected Gaussians [..., C, N, .] to images [..., C, H, W, .]."""

    @staticmethod
    def forward(ctx, means2d, conics, opacities, colors, backgrounds, depths, extents, radii, camera):
        *batch_shape, C, N, _ = means2d.shape
        B, D = math.prod(batch_shape), colors.shape[-1]
        H, W = camera.height, camera.width
        flat_means2d, flat_conics = _array(means2d, B, C, N, 2), _array(conics, B, C, N, 3)
        flat_depths, flat_extents = _array(depths, B, C, N), _array(extents, B, C, N, 2)
        flat_radii = _array(radii, B, C, N)
        flat_opacities, flat_colors = _array(opacities, B, N), _array(colors, B, N, D)
        black = np.zeros((B, C, D), np.float32)
        flat_backgrounds = black if backgrounds is None else _array(backgrounds, B, C, D)
        out_colors = colors.new_empty(*batch_shape, C, H, W, D)
        out_alphas = colors.new_empty(*batch_shape, C, H, W, 1)
        images = []
        with _threads() as num_threads:
            for b in range(B):
                for c in range(C):
                    image = _Image(
                        flat_means2d[b, c], flat_conics[b, c], flat_depths[b, c], flat_extents[b, c],
                        flat_radii[b, c], flat_opacities[b], flat_colors[b], flat_backgrounds[b, c], camera,
                    )  # fmt: skip
                    image.forward(
                        out_colors.view(B, C, H, W, D)[b, c].numpy(),
                        out_alphas.view(B, C, H, W)[b, c].numpy(),
                        num_threads,
                    )
                    images.append(image)
        ctx.images = images
        ctx.shapes = (means2d.shape, conics.shape, opacities.shape, colors.shape)
        ctx.background_shape = None if backgrounds is None else backgrounds.shape
        return out_colors, out_alphas

    @staticmethod
    @once_differentiable
    def backward(ctx, v_rendered, v_alphas):
        means2d_shape, conics_shape, opacities_shape, colors_shape = ctx.shapes
        *batch_shape, C, N, _ = means2d_shape
        B, D = math.prod(batch_shape), colors_shape[-1]
        H, W = v_rendered.shape[-3:-1]
        v_rendered, v_alphas = _array(v_rendered, B, C, H, W, D), _array(v_alphas, B, C, H, W)
        grads = tuple(torch.zeros(shape) for shape in ctx.shapes)
        v_means2d, v_conics = grads[0].view(B, C, N, 2).numpy(), grads[1].view(B, C, N, 3).numpy()
        v_opacities, v_colors = grads[2].view(B, N).numpy(), grads[3].view(B, N, D).numpy()
        v_backgrounds = None if ctx.background_shape is None else torch.zeros(B, C, D)
        with _threads() as num_threads:
            for b in range(B):
                for c in range(C):
                    image = ctx.images[b * C + c]
                    image.backward(
                        v_rendered[b, c], v_alphas[b, c],
                        v_means2d[b, c], v_conics[b, c], v_opacities[b], v_colors[b], num_threads,
                    )  # fmt: skip
                    if v_backgrounds is not None and ctx.needs_input_grad[4]:
                        weighted = image.transmittances[..., None] * v_rendered[b, c]
                        v_backgrounds[b, c] = torch.from_numpy(weighted.sum(axis=(0, 1)))
        if v_backgrounds is not None:
            v_backgrounds = v_backgrounds.view(ctx.background_shape)
        return *grads, v_backgrounds, None, None, None, None


class _Image:
    """One camera's picture: tile lists made once, used forward and backward."""

    def __init__(self, means2d, conics, depths, extents, radii, opacities, colors, background, camera):
        self.num_channels = colors.shape[1]
        self.stride = cpu_bins.RECORD_COLOR + max(self.num_channels, 4)
        self.background = background
        num_tiles_x, num_tiles_y = -(-camera.width // cpu_bins.TILE), -(-camera.height // cpu_bins.TILE)
        self.ids = cpu_bins.sort_by_depth(depths, radii)
        self.records, self.boxes = cpu_bins.make_records(
            self.ids, means2d, conics, extents, opacities, colors, camera.width, camera.height
        )
        self.tile_begins, self.pair_ranks, self.pair_slots, self.slot_begins = cpu_bins.deal_out(
            self.boxes, num_tiles_x, num_tiles_y
        )
        self.tile_order = np.argsort(np.diff(self.tile_begins), kind="stable")[::-1].copy()

    def forward(self, colors, alphas, num_threads):
        """Fills colors [H, W, D] and alphas [H, W]."""
        self.transmittances = np.empty(alphas.shape, np.float32)
        self.lasts = np.empty(alphas.shape, np.int32)
        cpu_raster.forward(
            self.tile_begins, self.tile_order, self.pair_ranks, self.records, self.boxes, self.stride,
            self.background, num_threads, colors, alphas, self.transmittances, self.lasts,
        )  # fmt: skip

    def backward(self, v_rendered, v_alphas, v_means2d, v_conics, v_opacities, v_colors, num_threads):
        """Adds this picture's gradients to the last four but one."""
        v_slots = np.empty((len(self.pair_ranks), cpu_raster.GRAD_COLOR + self.num_channels), np.float32)
        cpu_raster.backward(
            self.tile_begins, self.tile_order, self.pair_ranks, self.pair_slots, self.records, self.boxes, self.stride,
            self.background, num_threads, self.transmittances, self.lasts, v_rendered, v_alphas, v_slots,
        )  # fmt: skip
        cpu_raster.gather(self.ids, self.slot_begins, v_slots, v_means2d, v_conics, v_opacities, v_colors)
