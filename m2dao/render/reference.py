"""Defines a correct image: EWA splatting in plain PyTorch, every Gaussian on every pixel.

Slow on purpose (memory grows with N x H x W); other backends are compared with it. Gradients come from autograd.
Letters: N Gaussians, V of them drawn, P pixels, C cameras, D channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from m2dao.errors import InputError
from m2dao.render.conventions import (
    ALPHA_MAX,
    ALPHA_MIN,
    FAR_PLANE,
    FRUSTUM_MARGIN,
    MAX_EXTENT_SIGMAS,
    TRANSMITTANCE_MIN,
)
from m2dao.render.types import Camera, RenderInputs, RenderOutput

MAX_SIZE = 128  # px; beyond this the N x P matrices are too large to be useful
MAX_PAIRS_PER_CHUNK = 1 << 22  # pixel-Gaussian pairs evaluated at once


def render_reference(inputs: RenderInputs, camera: Camera) -> RenderOutput:
    """Backend ``reference`` of ``api.render``; arguments are checked and broadcast there."""
    if max(camera.width, camera.height) > MAX_SIZE:
        raise InputError(
            "backend 'reference'",
            f"images up to {MAX_SIZE} px",
            f"{camera.width}x{camera.height}",
            "use 'cpu' or 'gsplat'",
        )
    means, colors, backgrounds = inputs.means, inputs.colors, inputs.backgrounds
    batch_shape = means.shape[:-2]
    num_cameras = inputs.viewmats.shape[-3]
    num_gaussians = means.shape[-2]
    images = []
    for batch in range(math.prod(batch_shape)):
        gaussians = [_flat(tensor, batch_shape)[batch] for tensor in inputs.gaussians]
        for index in range(num_cameras):
            viewmat = _flat(inputs.viewmats, batch_shape)[batch, index]
            K = _flat(inputs.Ks, batch_shape)[batch, index]
            background = None if backgrounds is None else _flat(backgrounds, batch_shape)[batch, index]
            images.append((gaussians, viewmat, K, background))

    projected = [_project(gaussians, viewmat, K, camera) for gaussians, viewmat, K, _ in images]
    # The images are rasterised from this very tensor, so that its gradient can be retained.
    means2d = _stack([item[0] for item in projected], means.new_zeros(0, num_gaussians, 2))
    means2d = means2d.reshape(*batch_shape, num_cameras, num_gaussians, 2)
    radii = _stack([item[3] for item in projected], means.new_zeros(0, num_gaussians, dtype=torch.int32))
    flat_means2d = means2d.reshape(len(images), num_gaussians, 2)
    rendered = [
        _rasterize(flat_means2d[i], conics, depths, radii[i], gaussians[3], gaussians[4], background, camera)
        for i, ((gaussians, _, _, background), (_, conics, depths, _)) in enumerate(zip(images, projected, strict=True))
    ]
    shape = (*batch_shape, num_cameras, camera.height, camera.width)
    empty = means.new_zeros(0, camera.height, camera.width)
    return RenderOutput(
        colors=_stack([item[0] for item in rendered], empty).reshape(*shape, colors.shape[-1]),
        alphas=_stack([item[1] for item in rendered], empty).reshape(*shape, 1),
        means2d=means2d,
        radii=radii.reshape(*batch_shape, num_cameras, num_gaussians),
    )


def _flat(tensor: Tensor, batch_shape: torch.Size) -> Tensor:
    return tensor.reshape(math.prod(batch_shape), *tensor.shape[len(batch_shape) :])


def _stack(tensors: list[Tensor], empty: Tensor) -> Tensor:
    return torch.stack(tensors) if tensors else empty


def rotation_matrices(quats: Tensor) -> Tensor:
    """Rotation matrices [N, 3, 3] of quaternions [N, 4] (wxyz, any length but zero)."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _project(gaussians, viewmat, K, camera: Camera):
    """One image's means2d [N, 2], conics [N, 3] (xx, xy, yy), depths [N], radii [N]; zero where not drawn."""
    means, quats, scales, opacities, colors = gaussians
    num_gaussians = len(means)
    values = torch.cat([means, quats, scales, opacities[:, None], colors], dim=1)
    with torch.no_grad():
        usable = torch.isfinite(values).all(dim=1) & (quats.norm(dim=1) > 0) & torch.isfinite(viewmat).all()
        depth = torch.nan_to_num(means) @ viewmat[2, :3] + viewmat[2, 3]
        usable &= (depth >= camera.near_plane) & (depth <= FAR_PLANE) & (opacities >= ALPHA_MIN)
    # Only usable Gaussians enter the graph: a NaN would spoil the gradients even where it is masked out later.
    ids = usable.nonzero().squeeze(1)

    rotation, translation = viewmat[:3, :3], viewmat[:3, 3]
    x, y, z = (means[ids] @ rotation.T + translation).unbind(-1)
    axes = rotation_matrices(quats[ids]) * scales[ids][:, None, :]  # columns are the scaled principal axes
    camera_axes = rotation @ axes  # [V, 3, 3]; covariance in camera space = camera_axes @ camera_axes^T
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    margin_x = FRUSTUM_MARGIN * 0.5 * camera.width / fx
    margin_y = FRUSTUM_MARGIN * 0.5 * camera.height / fy
    tx = torch.clamp(x / z, -cx / fx - margin_x, (camera.width - cx) / fx + margin_x)
    ty = torch.clamp(y / z, -cy / fy - margin_y, (camera.height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [torch.stack([fx / z, zero, -fx * tx / z], dim=-1), torch.stack([zero, fy / z, -fy * ty / z], dim=-1)], dim=-2
    )
    image_axes = jacobian @ camera_axes  # [V, 2, 3]
    covariance = image_axes @ image_axes.transpose(1, 2)
    var_x = covariance[:, 0, 0] + camera.eps2d
    var_y = covariance[:, 1, 1] + camera.eps2d
    cov_xy = covariance[:, 0, 1]
    determinant = var_x * var_y - cov_xy * cov_xy
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)

    radius_x, radius_y = radii_of(var_x.detach(), var_y.detach(), opacities[ids].detach())
    drawn = (determinant > 0) & torch.isfinite(means2d).all(dim=1) & torch.isfinite(var_x + var_y + determinant)
    drawn &= (means2d[:, 0] + radius_x > 0) & (means2d[:, 0] - radius_x < camera.width)
    drawn &= (means2d[:, 1] + radius_y > 0) & (means2d[:, 1] - radius_y < camera.height)
    drawn &= torch.maximum(radius_x, radius_y) > 0
    kept = ids[drawn]
    conics = torch.stack([var_y, -cov_xy, var_x], dim=-1)[drawn] / determinant[drawn][:, None]
    radii = torch.zeros(num_gaussians, dtype=torch.int32, device=means.device)
    radii[kept] = torch.maximum(radius_x, radius_y)[drawn].clamp(max=2**30).to(torch.int32)
    return (
        means.new_zeros(num_gaussians, 2).index_put((kept,), means2d[drawn]),
        means.new_zeros(num_gaussians, 3).index_put((kept,), conics),
        means.new_zeros(num_gaussians).index_put((kept,), z[drawn].detach()),
        radii,
    )


def radii_of(var_x: Tensor, var_y: Tensor, opacities: Tensor) -> tuple[Tensor, Tensor]:
    """Half sides [V], [V] in whole px of the box outside which alpha is below ALPHA_MIN.

    Source: StopThePop (arXiv 2402.00525), section B.2: the extent shrinks with the opacity.
    """
    extent = torch.sqrt(2.0 * torch.log(opacities / ALPHA_MIN)).clamp(max=MAX_EXTENT_SIGMAS)
    return torch.ceil(extent * var_x.sqrt()), torch.ceil(extent * var_y.sqrt())


def _rasterize(means2d, conics, depths, radii, opacities, colors, background, camera: Camera):
    """One image from projected Gaussians: colors [H, W, D], alphas [H, W, 1]."""
    ids = (radii > 0).nonzero().squeeze(1)
    ids = ids[torch.sort(depths[ids], stable=True).indices]  # front to back
    means2d, conics, opacities, colors = means2d[ids], conics[ids], opacities[ids], colors[ids]
    rows_per_chunk = max(1, MAX_PAIRS_PER_CHUNK // (max(1, len(ids)) * camera.width))
    image_colors, image_alphas = [], []
    for top in range(0, camera.height, rows_per_chunk):
        rows = torch.arange(top, min(top + rows_per_chunk, camera.height), device=means2d.device)
        y, x = torch.meshgrid(rows, torch.arange(camera.width, device=means2d.device), indexing="ij")
        pixels = torch.stack([x, y], dim=-1).reshape(-1, 2).to(means2d.dtype) + 0.5
        blended, transmittance = _blend(pixels, means2d, conics, opacities, colors)
        if background is not None:
            blended = blended + transmittance * background
        image_colors.append(blended.reshape(len(rows), camera.width, -1))
        image_alphas.append((1.0 - transmittance).reshape(len(rows), camera.width, 1))
    return torch.cat(image_colors), torch.cat(image_alphas)


def _blend(pixels, means2d, conics, opacities, colors):
    """Front-to-back blending: premultiplied colours [P, D] and the transmittance left [P, 1]."""
    delta = means2d[None] - pixels[:, None]  # [P, V, 2]
    dx, dy = delta.unbind(-1)
    sigma = 0.5 * (conics[:, 0] * dx * dx + conics[:, 2] * dy * dy) + conics[:, 1] * dx * dy
    alpha = torch.clamp(opacities * torch.exp(-sigma), max=ALPHA_MAX)
    alpha = torch.where((sigma >= 0) & (alpha >= ALPHA_MIN), alpha, torch.zeros_like(alpha))
    with torch.no_grad():
        # Transmittance never rises, so "was never at the limit" and "is above the limit" are the same.
        unfinished = torch.cumprod(1.0 - alpha, dim=1) > TRANSMITTANCE_MIN
    alpha = torch.where(unfinished, alpha, torch.zeros_like(alpha))
    behind = torch.cumprod(1.0 - alpha, dim=1)  # transmittance behind each Gaussian
    before = torch.cat([behind.new_ones(len(pixels), 1), behind], dim=1)
    return (alpha * before[:, :-1]) @ colors, before[:, -1:]
