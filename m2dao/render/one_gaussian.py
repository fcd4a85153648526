"""The smallest picture that runs all of a backend, to warm it up."""

from __future__ import annotations

from collections.abc import Callable

import torch

from m2dao.render.types import Camera, RenderInputs, RenderOutput


def draw_one_gaussian(run: Callable[..., RenderOutput], device: torch.device, *, backward: bool = True) -> None:
    """Draws one Gaussian, forward and, when wanted, backward.

    Args:
        run: a backend's function.
        device: where it wants its tensors.
        backward: whether gradients are wanted too.
    """
    eye = torch.eye(4, device=device)
    inputs = RenderInputs(
        torch.tensor([[0.0, 0.0, 2.0]], device=device, requires_grad=backward),
        eye[:1],
        torch.full((1, 3), 0.1, device=device),
        torch.ones(1, device=device),
        torch.ones(1, 4, device=device),
        eye[None],
        torch.tensor([[[16.0, 0.0, 8.0], [0.0, 16.0, 8.0], [0.0, 0.0, 1.0]]], device=device),
    )
    output = run(inputs, Camera(width=16, height=16, near_plane=0.01, eps2d=0.3))
    if backward:
        output.colors.sum().backward()
