"""One differentiable ``render`` for every backend: checks, broadcasting and dispatch.

Backends:
    reference   plain PyTorch, float32 or float64, images up to 128 px; defines what is correct
    cpu         Numba kernels, float32, forward and analytic backward; the default without a GPU
    gsplat      gsplat's CUDA kernels, float32

All follow gsplat 1.5.3: quaternions wxyz, viewmats from world to camera with OpenCV axes, pixel centres at +0.5,
``eps2d`` added to the diagonal of the projected covariance, alpha at most 0.999 and ignored below 1/255, a pixel is
finished before its transmittance would fall to 1e-4, colours come out premultiplied.

Letters in shape comments: N Gaussians, C cameras, H and W the image, D channels, ``...`` batch dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from m2dao.errors import InputError
from m2dao.render.types import Camera, RenderInputs, RenderOutput

BACKENDS = ("cpu", "gsplat", "reference")
_OWN_SHAPES: dict[str, tuple[int | None, ...]] = {
    "means": (None, 3),
    "quats": (None, 4),
    "scales": (None, 3),
    "opacities": (None,),
    "colors": (None, None),
    "viewmats": (None, 4, 4),
    "Ks": (None, 3, 3),
    "backgrounds": (None, None),
}  # the last dimensions of each tensor; None where any size will do


def default_backend() -> str:
    """``"gsplat"`` where PyTorch sees a CUDA device, else ``"cpu"``."""
    return "gsplat" if torch.cuda.is_available() else "cpu"


def device_of(backend: str) -> torch.device:
    """Where a backend wants its tensors."""
    return torch.device("cuda" if backend == "gsplat" else "cpu")


def render(
    means: Tensor,  # [..., N, 3]
    quats: Tensor,  # [..., N, 4]
    scales: Tensor,  # [..., N, 3]
    opacities: Tensor,  # [..., N]
    colors: Tensor,  # [..., N, D]
    viewmats: Tensor,  # [..., C, 4, 4]
    Ks: Tensor,  # [..., C, 3, 3]
    *,
    width: int,
    height: int,
    backend: str,
    backgrounds: Tensor | None = None,  # [..., C, D]
    near_plane: float = 0.01,
    eps2d: float = 0.3,
) -> RenderOutput:
    """Splats Gaussians into images, differentiable in everything except ``Ks``.

    A Gaussian with a value that is not finite, behind ``near_plane``, with an opacity below 1/255 or outside the image
    is not drawn and gets a zero gradient. On backend ``cpu`` the same input gives the same bits, forward and backward,
    whatever the number of threads.

    Args:
        means: centres in world units.
        quats: rotations, wxyz, of any length but zero; normalised inside.
        scales: positive standard deviations along the rotated axes, world units.
        opacities: 0..1.
        colors: any number of channels, any range.
        viewmats: world to camera.
        Ks: pinhole intrinsics in pixels of the image asked for; no gradient.
        width: image width in pixels.
        height: image height in pixels.
        backend: ``"cpu"``, ``"gsplat"`` or ``"reference"``; never replaced by another one.
        backgrounds: a colour per camera, blended behind; None leaves the colours premultiplied over black.
        near_plane: Gaussians whose centre is nearer are not drawn.
        eps2d: variance in px^2 added along both image axes.

    Batch dimensions of all tensors are broadcast against each other.

    Returns:
        RenderOutput.

    Raises:
        InputError: the backend is unknown, a tensor has another shape, dtype or device than it should, or a number is
            out of range.
        RenderBackendUnavailable: the backend does not run on this machine.

    Source: EWA splatting (Zwicker et al. 2001) as used for 3D Gaussians (Kerbl et al. 2023), with gsplat's conventions.
    """
    run = _backend_function(backend)
    camera = _checked_camera(width, height, near_plane, eps2d)
    inputs = RenderInputs(means, quats, scales, opacities, colors, viewmats, Ks, backgrounds)
    return run(_checked(inputs, backend), camera)


def warm_up(backend: str) -> None:
    """Compiles and loads a backend's kernels, so that no later call waits for it.

    The first time on a machine this takes about 20 s for ``"cpu"`` and minutes for ``"gsplat"``, later a second or two:
    both keep the machine code on disk. Call it when an image is built or a process starts, never on a request.

    Raises:
        InputError: the backend is unknown.
        RenderBackendUnavailable: it does not run on this machine.
    """
    run = _backend_function(backend)
    if backend == "cpu":
        from m2dao.kernels.compiled import compile_ahead
        from m2dao.render import composite_kernel  # noqa: F401  registers its kernel

        compile_ahead("m2dao.render")
        return
    _draw_one(run, backend, backward=True)


def probe(backend: str) -> None:
    """Draws one Gaussian; whatever keeps the backend from rendering here and now is raised.

    Raises:
        InputError: the backend is unknown.
        RenderBackendUnavailable: it does not run on this machine.
    """
    _draw_one(_backend_function(backend), backend, backward=False)


def _draw_one(run, backend: str, *, backward: bool) -> None:
    from m2dao.render.one_gaussian import draw_one_gaussian

    draw_one_gaussian(run, device_of(backend), backward=backward)
    if backend == "gsplat":
        torch.cuda.synchronize()


def _backend_function(backend: str):
    if backend == "cpu":
        from m2dao.render.cpu import render_cpu

        return render_cpu
    if backend == "gsplat":
        from m2dao.render.cuda import render_gsplat, require_cuda

        require_cuda()
        return render_gsplat
    if backend == "reference":
        from m2dao.render.reference import render_reference

        return render_reference
    raise InputError(f"backend {backend!r}", "one of " + ", ".join(repr(name) for name in BACKENDS))


def _checked_camera(width: int, height: int, near_plane: float, eps2d: float) -> Camera:
    for name, size in (("width", width), ("height", height)):
        if not isinstance(size, int) or not 1 <= size <= 16384:
            raise InputError(f"render: {name}", "a whole number from 1 to 16384", repr(size))
    if not (math.isfinite(near_plane) and near_plane > 0):
        raise InputError("render: near_plane", "a positive distance", repr(near_plane))
    if not (math.isfinite(eps2d) and eps2d > 0):
        raise InputError("render: eps2d", "a positive variance in px^2", repr(eps2d))
    return Camera(width, height, float(near_plane), float(eps2d))


def _checked(inputs: RenderInputs, backend: str) -> RenderInputs:
    """The tensors, broadcast against each other."""
    named = {
        name: (tensor, len(_OWN_SHAPES[name]), _OWN_SHAPES[name])
        for name, tensor in inputs._asdict().items()
        if name != "backgrounds" or tensor is not None
    }
    _check_tensors(named, backend)
    batch_shape = _check_sizes(named)
    for name, (tensor, num_own, _) in named.items():
        full_shape = batch_shape + tensor.shape[tensor.dim() - num_own :]
        if tensor.shape != full_shape:
            inputs = inputs._replace(**{name: tensor.expand(full_shape)})
    return inputs


def _check_tensors(named: dict, backend: str) -> None:
    """Shape of the last dimensions, dtype and device of each tensor."""
    device = named["means"][0].device if isinstance(named["means"][0], Tensor) else None
    dtypes = (torch.float32, torch.float64) if backend == "reference" else (torch.float32,)
    for name, (tensor, num_own, own_shape) in named.items():
        if not isinstance(tensor, Tensor):
            raise InputError(f"render: {name}", "a torch.Tensor", type(tensor).__name__)
        shape_fits = tensor.dim() >= num_own and all(
            want is None or have == want
            for have, want in zip(tensor.shape[tensor.dim() - num_own :], own_shape, strict=True)
        )
        if not shape_fits:
            letters = {"viewmats": "C, 4, 4", "Ks": "C, 3, 3", "colors": "N, D", "backgrounds": "C, D"}
            wanted = letters.get(name, ", ".join("N" if size is None else str(size) for size in own_shape))
            raise InputError(f"render: {name}", f"shape [..., {wanted}]", str(list(tensor.shape)))
        if tensor.dtype not in dtypes or tensor.dtype != named["means"][0].dtype:
            wanted = "dtype " + " or ".join(str(dtype) for dtype in dtypes) + ", the same for all tensors"
            raise InputError(f"render: {name}", f"{wanted} on backend {backend!r}", str(tensor.dtype))
        if tensor.device != device:
            raise InputError(f"render: {name}", f"device {device} like means", str(tensor.device))
    assert device is not None  # the means were a tensor
    needed_device = {"cpu": "cpu", "gsplat": "cuda"}.get(backend, device.type)
    if device.type != needed_device:
        raise InputError("render: means", f"a tensor on device {needed_device} for backend {backend!r}", str(device))


def _check_sizes(named: dict) -> torch.Size:
    """N, C and D agree between the tensors; returns the common batch shape."""
    num_gaussians = named["means"][0].shape[-2]
    num_cameras = named["viewmats"][0].shape[-3]
    num_channels = named["colors"][0].shape[-1]
    if num_channels < 1 or num_cameras < 1:
        raise InputError("render", "at least one channel and one camera", f"D={num_channels}, C={num_cameras}")
    sizes = {
        "quats": ("N", -2, num_gaussians),
        "scales": ("N", -2, num_gaussians),
        "opacities": ("N", -1, num_gaussians),
        "colors": ("N", -2, num_gaussians),
        "Ks": ("C", -3, num_cameras),
    }
    if "backgrounds" in named:
        sizes["backgrounds"] = ("C", -2, num_cameras)
        if named["backgrounds"][0].shape[-1] != num_channels:
            got = f"D={named['backgrounds'][0].shape[-1]}"
            raise InputError("render: backgrounds", f"D={num_channels} channels like colors", got)
    for name, (letter, dimension, size) in sizes.items():
        if named[name][0].shape[dimension] != size:
            owner = "means" if letter == "N" else "viewmats"
            got = f"{letter}={named[name][0].shape[dimension]}"
            raise InputError(f"render: {name}", f"{letter}={size} like {owner}", got)
    batch_shapes = {name: tensor.shape[: tensor.dim() - num_own] for name, (tensor, num_own, _) in named.items()}
    first = batch_shapes["means"]
    if all(shape == first for shape in batch_shapes.values()):
        return first
    try:
        return torch.broadcast_shapes(*batch_shapes.values())
    except RuntimeError as error:
        got = ", ".join(f"{name} {list(shape)}" for name, shape in batch_shapes.items())
        raise InputError("render: batch dimensions", "shapes that broadcast", got) from error
