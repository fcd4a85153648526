"""A CUDA device for machines without one: its tensors refuse to meet tensors that lie elsewhere.

The numbers lie on the CPU. What this shows is that a program brings everything to the device, keeps it there and
fetches it before NumPy reads it; nothing about CUDA kernels.
"""

from __future__ import annotations

import sys
import types
from contextlib import contextmanager

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from m2dao.render.types import Camera, RenderInputs, RenderOutput

_CUDA = torch.device("cuda", 0)
_aten = torch.ops.aten
_CROSSING = (
    _aten.copy_.default,
    _aten._to_copy.default,
    _aten.index.Tensor,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
)


class DeviceTensor(torch.Tensor):
    """A tensor of the pretended device."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        with no_dispatch():  # to PyTorch a device without memory, so that every way from and to it comes by here
            shape = torch.empty_strided(inner.size(), inner.stride(), dtype=inner.dtype, device="meta")
            wrapper = torch.Tensor._make_subclass(cls, shape)
        wrapper.held = inner
        return wrapper

    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def device(self) -> torch.device:
        return _CUDA

    def tolist(self) -> list:
        return self.held.tolist()

    def numpy(self):
        raise TypeError("can't convert a CUDA tensor to numpy; use .cpu() first")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def __repr__(self) -> str:
        return f"DeviceTensor({list(self.shape)}, {self.dtype})"


class _PretendCuda(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _WayThere(TorchFunctionMode):
    """``to("cuda")``, ``tensor`` and ``new_tensor``, which PyTorch without CUDA refuses early."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.to and any(
            torch.device(d).type == "cuda" for d in args[1:2] if isinstance(d, str | torch.device)
        ):
            tensor = args[0]
            return tensor if isinstance(tensor, DeviceTensor) else DeviceTensor(tensor.detach().clone())
        kwargs = kwargs or {}
        if func is torch.tensor and "device" in kwargs and torch.device(kwargs["device"]).type == "cuda":
            return DeviceTensor(torch.tensor(*args, **{**kwargs, "device": "cpu"}))
        if func is torch.Tensor.new_tensor and isinstance(args[0], DeviceTensor):
            return DeviceTensor(torch.tensor(args[1], dtype=args[0].dtype))
        return func(*args, **kwargs)


def _run(func, args, kwargs):
    """One operation, by the device of its arguments or the one asked for; gradients ask for "meta"."""
    flat, spec = tree_flatten((args, kwargs))
    there = [value for value in flat if isinstance(value, DeviceTensor)]
    plain = [value for value in flat if isinstance(value, torch.Tensor) and not isinstance(value, DeviceTensor)]
    here = [value for value in plain if any(value.stride())]  # single numbers go anywhere
    if there and here and func not in _CROSSING:
        raise RuntimeError(f"expected all tensors to be on the same device: {func}")
    devices = [value for value in flat if isinstance(value, torch.device)]
    goes_there = devices[0].type in ("cuda", "meta") if devices else bool(there)
    held = [torch.device("cpu") if isinstance(v, torch.device) else getattr(v, "held", v) for v in flat]
    new_args, new_kwargs = tree_unflatten(held, spec)
    out = func(*new_args, **new_kwargs)
    if func._schema.is_mutable:  # what was written to is what comes back
        if isinstance(out, torch.Tensor) and out.shape != args[0].shape:
            with no_dispatch():  # the wrapper's own shape
                func(*args, **kwargs)
        return args[0] if isinstance(out, torch.Tensor) else out
    return tree_map_only(torch.Tensor, DeviceTensor, out) if goes_there else out


def draw_blobs(inputs: RenderInputs, camera: Camera) -> RenderOutput:
    """A renderer of few operations, arguments as of the backends: round blobs that do not hide each other."""
    means, quats, scales, opacities, colors, viewmats, Ks, _ = inputs
    points = (
        means[..., None, :, :] @ viewmats[..., :3, :3].transpose(-1, -2) + viewmats[..., None, :3, 3]
    )  # [..., C, N, 3]
    projected = points @ Ks.transpose(-1, -2)
    means2d = projected[..., :2] / projected[..., 2:]
    sigma = 1 + (scales + 0 * quats[..., :1]).mean(-1)[..., None, :] * Ks[..., :1, 0] / projected[..., 2]  # [..., C, N]
    y, x = (torch.arange(size, device=means.device) + 0.5 for size in (camera.height, camera.width))
    away = ((x - means2d[..., :1]) ** 2)[..., None, :] + ((y - means2d[..., 1:]) ** 2)[..., None]  # [..., C, N, H, W]
    weights = opacities[..., None, :, None, None] * torch.exp(-away / (2 * sigma[..., None, None] ** 2))
    total = 1 + weights.sum(-3)[..., None]
    out = torch.einsum("...nhw,...nd->...hwd", weights, colors[..., None, :, :]) / total
    return RenderOutput(out, 1 - 1 / total, means2d, torch.full_like(means2d[..., 0], 3, dtype=torch.int32))


def _rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, *, near_plane, eps2d, packed, backgrounds
):
    """gsplat's function, as far as we call it."""
    camera = Camera(width, height, near_plane, eps2d)
    out = draw_blobs(RenderInputs(means, quats, scales, opacities, colors, viewmats, Ks, backgrounds), camera)
    return out.colors, out.alphas, {"means2d": out.means2d, "radii": out.radii[..., None].expand(*out.radii.shape, 2)}


@contextmanager
def pretend_cuda():
    """Within it PyTorch sees a CUDA device and gsplat draws blobs there."""
    gsplat = types.ModuleType("gsplat")
    gsplat.rasterization = _rasterization
    gsplat.cuda = types.ModuleType("gsplat.cuda")
    gsplat.cuda._backend = types.ModuleType("gsplat.cuda._backend")
    gsplat.cuda._backend._C = object()  # the compiled kernels
    with pytest.MonkeyPatch.context() as patch, _PretendCuda(), _WayThere():
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "synchronize", lambda: None)
        for module in (gsplat, gsplat.cuda, gsplat.cuda._backend):
            patch.setitem(sys.modules, module.__name__, module)
        yield
