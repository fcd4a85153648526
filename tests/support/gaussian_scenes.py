"""Small scenes of Gaussians for tests of the renderer, built from a seed in float64.

A scene is the keyword arguments of ``render`` that are tensors. Letters: N Gaussians, C cameras, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m2dao.render.api import render
from m2dao.render.types import RenderOutput

DIFFERENTIABLE = ("means", "quats", "scales", "opacities", "colors", "viewmats", "backgrounds")


def make_scene(
    *,
    num_gaussians: int = 120,
    width: int = 40,
    height: int = 27,
    num_channels: int = 4,
    num_cameras: int = 1,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Gaussians of all shapes in a box in front of slightly rotated cameras; some lie outside the image."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    focal = 0.8 * max(width, height)
    viewmats = torch.eye(4, dtype=torch.float64).repeat(num_cameras, 1, 1)
    viewmats[:, :3, :3] = torch.linalg.matrix_exp(_cross_matrices(0.2 * normal(num_cameras, 3)))
    viewmats[:, :3, 3] = 0.1 * normal(num_cameras, 3) + torch.tensor([0.0, 0.0, 4.0], dtype=torch.float64)
    K = torch.tensor([[focal, 0, width / 2], [0, 1.1 * focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    return {
        "means": 3.2 * uniform(num_gaussians, 3) - 1.6,
        "quats": normal(num_gaussians, 4),
        "scales": 0.12 * torch.exp(0.6 * normal(num_gaussians, 3)),
        "opacities": uniform(num_gaussians),
        "colors": uniform(num_gaussians, num_channels),
        "viewmats": viewmats,
        "Ks": K.repeat(num_cameras, 1, 1),
        "backgrounds": uniform(num_cameras, num_channels),
    }


def _cross_matrices(vectors: Tensor) -> Tensor:
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(-1, 3, 3)


def draw(
    scene: dict[str, Tensor], backend: str, *, width: int = 40, height: int = 27, dtype=torch.float32, **options
) -> RenderOutput:
    """The scene's image in ``dtype`` on one backend."""
    tensors = {name: tensor.to(dtype) for name, tensor in scene.items()}
    return render(**tensors, width=width, height=height, backend=backend, **options)


def draw_and_differentiate(
    scene: dict[str, Tensor],
    backend: str,
    *,
    width: int = 40,
    height: int = 27,
    dtype=torch.float32,
    device="cpu",
    **options,
) -> tuple[RenderOutput, dict[str, Tensor]]:
    """The image and the gradients of a fixed random weighting of its colours and alphas, by name of input."""
    tensors = {name: tensor.detach().to(device, dtype).clone() for name, tensor in scene.items()}
    for name in DIFFERENTIABLE:
        if name in tensors:
            tensors[name].requires_grad_()
    output = render(**tensors, width=width, height=height, backend=backend, **options)
    output.means2d.retain_grad()
    generator = torch.Generator().manual_seed(99)
    weights = [torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in output[:2]]
    loss = sum((part * weight.to(device, dtype)).sum() for part, weight in zip(output[:2], weights, strict=True))
    loss.backward()
    gradients = {name: tensors[name].grad for name in DIFFERENTIABLE if name in tensors}
    return output, gradients | {"means2d": output.means2d.grad}
