"""Backend ``cpu``: Numba kernels wired into autograd as two functions, projection and rasterisation.

Between the two lies ``means2d``, a tensor of the graph, so its gradient can be retained for density control.

Threads: see ``threads``. Calls from several threads at once are independent of each other.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from m2dao.kernels.compiled import warms_up
from m2dao.kernels.threads import CHUNK, share_out
from m2dao.render import cpu_bins, cpu_project, cpu_project_backward, cpu_raster
from m2dao.render.one_gaussian import draw_one_gaussian
from m2dao.render.types import Camera, RenderInputs, RenderOutput
from m2dao.stages import running_clock, timed

# Work that is worth a thread of its own; less costs more to hand over than it saves.
GAUSSIANS_PER_THREAD = 4000
PAIRS_PER_THREAD = 2000


def render_cpu(inputs: RenderInputs, camera: Camera) -> RenderOutput:
    """Backend ``cpu`` of ``api.render``; arguments are checked and broadcast there."""
    means2d, conics, radii, views = _Project.apply(*inputs.gaussians, inputs.viewmats, inputs.Ks, camera)
    rendered, alphas = _Rasterize.apply(
        means2d, conics, inputs.opacities, inputs.colors, inputs.backgrounds, views, camera
    )
    return RenderOutput(rendered, alphas, means2d, radii)


def _array(tensor: Tensor, *shape: int) -> np.ndarray:
    """A contiguous numpy view (or copy) with this shape."""
    return tensor.detach().contiguous().view(shape).numpy()


def _threads_for(amount: int, amount_per_thread: int) -> int:
    return max(1, amount // amount_per_thread)


class _Project(torch.autograd.Function):
    """Gaussians [..., N, .] and cameras [..., C, .] to projected Gaussians [..., C, N, .] and ``_View``s.

    Conics are float64: those of long thin Gaussians are nearly singular, and their gradient needs the small eigenvalue.
    """

    @staticmethod
    def forward(ctx, means, quats, scales, opacities, colors, viewmats, Ks, camera):
        batch_shape = means.shape[:-2]
        B, N, C, D = math.prod(batch_shape), means.shape[-2], viewmats.shape[-3], colors.shape[-1]
        inputs = (_array(means, B, N, 3), _array(quats, B, N, 4), _array(scales, B, N, 3))
        appearance = (_array(opacities, B, N), _array(colors, B, N, D))
        flat_viewmats = _array(viewmats, B, C, 4, 4).astype(np.float64)
        flat_Ks = _array(Ks, B, C, 3, 3).astype(np.float64)
        shape = (*batch_shape, C, N)
        means2d, conics = means.new_empty(*shape, 2), means.new_empty(*shape, 3, dtype=torch.float64)
        radii = torch.empty(shape, dtype=torch.int32)
        flat_means2d, flat_conics = means2d.view(B, C, N, 2).numpy(), conics.view(B, C, N, 3).numpy()
        flat_radii = radii.view(B, C, N).numpy()
        views = []
        for b in range(B):
            for c in range(C):
                view = _View(N, D)
                with timed("project"):
                    share_out(
                        cpu_project.project,
                        *(array[b] for array in (*inputs, *appearance)),
                        flat_viewmats[b, c],
                        flat_Ks[b, c],
                        *camera,
                        flat_means2d[b, c],
                        flat_conics[b, c],
                        view.depths,
                        flat_radii[b, c],
                        view.records,
                        view.boxes,
                        max_threads=_threads_for(N, GAUSSIANS_PER_THREAD),
                    )
                views.append(view)
        ctx.saved = (inputs, flat_viewmats, flat_Ks, flat_conics, flat_radii, camera)
        ctx.shapes = (means.shape, quats.shape, scales.shape, viewmats.shape)
        ctx.mark_non_differentiable(radii)
        ctx.set_materialize_grads(False)
        return means2d, conics, radii, views

    @staticmethod
    @once_differentiable
    def backward(ctx, v_means2d, v_conics, *_):
        inputs, viewmats, Ks, conics, radii, camera = ctx.saved
        B, C, N = radii.shape
        grads = [torch.zeros(shape) for shape in ctx.shapes[:3]]
        arrays = [grad.view(array.shape).numpy() for grad, array in zip(grads, inputs, strict=True)]
        v_means2d = np.zeros((B, C, N, 2), np.float32) if v_means2d is None else _array(v_means2d, B, C, N, 2)
        v_conics = np.zeros((B, C, N, 3)) if v_conics is None else _array(v_conics, B, C, N, 3)
        v_viewmats, wants_view = np.zeros((B, C, 4, 4)), ctx.needs_input_grad[5]
        for b in range(B):
            for c in range(C):
                chunks = np.zeros((-(-N // CHUNK), 4, 4))
                share_out(
                    cpu_project_backward.project_backward,
                    *(array[b] for array in inputs),
                    viewmats[b, c],
                    Ks[b, c],
                    camera.width,
                    camera.height,
                    conics[b, c],
                    radii[b, c],
                    v_means2d[b, c],
                    v_conics[b, c],
                    *(array[b] for array in arrays),
                    chunks,
                    wants_view,
                    max_threads=_threads_for(N, GAUSSIANS_PER_THREAD),
                )
                v_viewmats[b, c] = chunks.sum(axis=0)
        v_view = torch.from_numpy(v_viewmats.astype(np.float32)).view(ctx.shapes[3]) if wants_view else None
        return *grads, None, None, v_view, None, None


class _Rasterize(torch.autograd.Function):
    """Projected Gaussians [..., C, N, .] to images [..., C, H, W, .]; the values drawn lie in the views."""

    @staticmethod
    def forward(ctx, means2d, conics, opacities, colors, backgrounds, views, camera):
        *batch_shape, C, _, _ = means2d.shape
        B, D = math.prod(batch_shape), colors.shape[-1]
        black = np.zeros((B, C, D), np.float32)
        flat_backgrounds = black if backgrounds is None else _array(backgrounds, B, C, D)
        out_colors = colors.new_empty(*batch_shape, C, camera.height, camera.width, D)
        out_alphas = colors.new_empty(*batch_shape, C, camera.height, camera.width, 1)
        flat_colors, flat_alphas = out_colors.view(B * C, -1).numpy(), out_alphas.view(B * C, -1).numpy()
        for index, view in enumerate(views):
            view.draw(camera, flat_backgrounds[index // C, index % C], flat_colors[index], flat_alphas[index])
        ctx.views = views
        ctx.shapes = (means2d.shape, conics.shape, opacities.shape, colors.shape)
        ctx.background_shape = None if backgrounds is None else backgrounds.shape
        return out_colors, out_alphas

    @staticmethod
    @once_differentiable
    def backward(ctx, v_rendered, v_alphas):
        means2d_shape, _, _, colors_shape = ctx.shapes
        *batch_shape, C, N, _ = means2d_shape
        B, D = math.prod(batch_shape), colors_shape[-1]
        v_rendered = _array(v_rendered, B * C, v_alphas.shape[-3] * v_alphas.shape[-2] * D)
        v_alphas = _array(v_alphas, B * C, v_alphas.shape[-3] * v_alphas.shape[-2])
        grads = [torch.zeros(shape) for shape in ctx.shapes]
        grads[1] = grads[1].double()  # like conics
        v_means2d, v_conics = grads[0].view(B * C, N, 2).numpy(), grads[1].view(B * C, N, 3).numpy()
        v_opacities, v_colors = grads[2].view(B, N).numpy(), grads[3].view(B, N, D).numpy()
        v_backgrounds = None
        if ctx.background_shape is not None and ctx.needs_input_grad[4]:
            v_backgrounds = torch.zeros(B * C, D)
        for index, view in enumerate(ctx.views):
            view.differentiate(
                v_rendered[index],
                v_alphas[index],
                v_means2d[index],
                v_conics[index],
                v_opacities[index // C],
                v_colors[index // C],
            )
            if v_backgrounds is not None:
                v_backgrounds[index] = torch.from_numpy(view.transmittances @ v_rendered[index].reshape(-1, D))
        if v_backgrounds is not None:
            v_backgrounds = v_backgrounds.view(ctx.background_shape)
        return *grads, v_backgrounds, None, None


class _View:
    """What one camera sees: projected Gaussians and tile lists, made once, used forward and backward."""

    def __init__(self, num_gaussians: int, num_channels: int):
        self.depths = np.empty(num_gaussians, np.float32)
        self.records = np.empty((num_gaussians, cpu_project.RECORD_COLOR + max(num_channels, 4)), np.float32)
        self.boxes = np.empty((num_gaussians, 4), np.int32)

    def draw(self, camera: Camera, background: np.ndarray, colors: np.ndarray, alphas: np.ndarray) -> None:
        """Fills colors [H * W * D] and alphas [H * W]."""
        num_tiles_x = -(-camera.width // cpu_bins.TILE_WIDTH)
        num_tiles_y = -(-camera.height // cpu_bins.TILE_HEIGHT)
        with timed("bin"):
            ids = cpu_bins.sort_by_depth(self.depths, self.boxes)
            tile_begins, pair_ids, pair_slots, self.slot_begins = cpu_bins.deal_out(
                ids, self.boxes, num_tiles_x, num_tiles_y
            )
            tile_order = np.argsort(np.diff(tile_begins), kind="stable")[::-1].copy()
        self.lists = (tile_begins, tile_order, pair_ids)
        self.pair_slots = pair_slots
        self.max_threads = _threads_for(len(pair_ids), PAIRS_PER_THREAD)
        self.surroundings = (background, camera.width, camera.height)
        self.transmittances, self.lasts = np.empty_like(alphas), np.empty_like(alphas)
        if (clock := running_clock()) is not None:
            left, past_left, top, past_top = self.boxes.T.astype(np.int64)
            clock.add_pairs(int(((past_left - left) * (past_top - top)).sum()))
        with timed("raster"):
            share_out(
                cpu_raster.forward,
                *self.lists,
                self.records,
                self.boxes,
                *self.surroundings,
                colors,
                alphas,
                self.transmittances,
                self.lasts,
                max_threads=self.max_threads,
            )

    def differentiate(self, v_rendered, v_alphas, v_means2d, v_conics, v_opacities, v_colors) -> None:
        """Fills v_means2d and v_conics, adds to v_opacities and v_colors."""
        num_pairs, num_channels = len(self.pair_slots), v_colors.shape[1]
        v_slots = np.empty((num_pairs, cpu_raster.GRAD_COLOR + num_channels), np.float32)
        share_out(
            cpu_raster.backward,
            *self.lists,
            self.pair_slots,
            self.records,
            self.boxes,
            *self.surroundings,
            self.transmittances,
            self.lasts,
            v_rendered,
            v_alphas,
            v_slots,
            max_threads=self.max_threads,
        )
        share_out(
            cpu_raster.gather,
            self.slot_begins,
            v_slots,
            v_means2d,
            v_conics,
            v_opacities,
            v_colors,
            max_threads=_threads_for(len(v_opacities), GAUSSIANS_PER_THREAD),
        )


@warms_up
def _draw_one() -> None:
    draw_one_gaussian(render_cpu, torch.device("cpu"))
