"""Backend ``gsplat``: gsplat's CUDA kernels behind our signature.

gsplat compiles its kernels at the first call on a machine (minutes; ``TORCH_CUDA_ARCH_LIST`` and ``MAX_JOBS`` matter):
call ``api.warm_up`` when an image is built or a process starts, so that no request waits for it.

Source: gsplat 1.5.3, ``gsplat.rasterization``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m2dao.errors import RenderBackendUnavailable
from m2dao.render.types import Camera, RenderInputs, RenderOutput


def require_cuda() -> None:
    """Raises RenderBackendUnavailable unless there are a CUDA device, gsplat and its compiled kernels.

    Without kernels on disk the first call compiles them, which takes minutes and the CUDA toolkit. Without the toolkit
    gsplat has no kernels, and would fail much later by an attribute of None.
    """
    if not torch.cuda.is_available():
        raise RenderBackendUnavailable("backend 'gsplat'", remedy="needs a CUDA device; use 'cpu'")
    try:
        from gsplat.cuda import _backend
    except Exception as error:  # gsplat compiles at import: whatever its build raises comes out here
        raise RenderBackendUnavailable(
            "backend 'gsplat'",
            remedy=f"the package gsplat cannot be imported ({error}); install gsplat==1.5.3 and a CUDA toolkit that "
            "compiles its kernels",
        ) from error
    if _backend._C is None:
        raise RenderBackendUnavailable(
            "backend 'gsplat'",
            expected="compiled kernels, or the CUDA toolkit to compile them",
            got="neither",
            remedy="compile them where nvcc is, when the image is built: m2dao bench render --backend gsplat; or use "
            "'cpu'",
        )


def render_gsplat(inputs: RenderInputs, camera: Camera) -> RenderOutput:
    """Backend ``gsplat`` of ``api.render``; arguments are checked and broadcast there."""
    from gsplat import rasterization

    if inputs.means.numel() == 0:  # nothing to launch
        return _empty_output(inputs, camera)
    rendered, alphas, meta = rasterization(
        *_without_broken(*inputs.gaussians),
        inputs.viewmats,
        inputs.Ks,
        camera.width,
        camera.height,
        near_plane=camera.near_plane,
        eps2d=camera.eps2d,
        packed=False,  # below 100k Gaussians the dense layout is faster
        backgrounds=inputs.backgrounds,
    )
    return RenderOutput(rendered, alphas, meta["means2d"], meta["radii"].amax(dim=-1))


def _without_broken(*tensors: Tensor) -> list[Tensor]:
    """Gaussians with a value that is not finite become transparent, without waiting for the device."""
    num_batch_dims = tensors[0].dim() - 2
    flat = [
        tensor.flatten(num_batch_dims + 1) if tensor.dim() > num_batch_dims + 1 else tensor[..., None]
        for tensor in tensors
    ]
    usable = torch.isfinite(torch.cat(flat, dim=-1)).all(dim=-1) & (tensors[1].detach().norm(dim=-1) > 0)
    cleaned = []
    for index, tensor in enumerate(tensors):
        mask = usable if tensor.dim() == usable.dim() else usable[..., None]
        # Zero is harmless everywhere but for the quaternion, which is normalised.
        cleaned.append(torch.where(mask, tensor, torch.ones_like(tensor) if index == 1 else torch.zeros_like(tensor)))
    return cleaned


def _empty_output(inputs: RenderInputs, camera: Camera) -> RenderOutput:
    means, shape = inputs.means, inputs.viewmats.shape[:-2]
    rendered = means.new_zeros(*shape, camera.height, camera.width, inputs.colors.shape[-1])
    if inputs.backgrounds is not None:
        rendered = rendered + inputs.backgrounds[..., None, None, :]
    return RenderOutput(
        rendered,
        means.new_zeros(*shape, camera.height, camera.width, 1),
        means.new_zeros(*shape, means.shape[-2], 2),
        torch.zeros(*shape, means.shape[-2], dtype=torch.int32, device=means.device),
    )
