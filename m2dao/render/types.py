"""What is rendered, from where: the types that all backends share."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class RenderOutput(NamedTuple):
    """What one call of ``render`` gives.

    Attributes:
        colors: [..., C, H, W, D] premultiplied by alpha; with backgrounds, blended over them.
        alphas: [..., C, H, W, 1] in 0..1, one minus the transmittance left behind the last Gaussian.
        means2d: [..., C, N, 2] projected means in pixels, meaningful where radii > 0. It is part of the graph:
            call ``means2d.retain_grad()`` before ``backward()`` and read ``means2d.grad`` for the screen-space
            gradient that density control needs.
        radii: int32 [..., C, N] half the larger side of the box that holds all visible pixels; 0 where not drawn.
    """

    colors: Tensor
    alphas: Tensor
    means2d: Tensor
    radii: Tensor


class Camera(NamedTuple):
    """The part of a call that is not a tensor. Lengths in pixels, ``near_plane`` in world units."""

    width: int
    height: int
    near_plane: float
    eps2d: float


class RenderInputs(NamedTuple):
    """The tensors of a call, checked and broadcast; ``render`` says what they mean."""

    means: Tensor  # [..., N, 3]
    quats: Tensor  # [..., N, 4]
    scales: Tensor  # [..., N, 3]
    opacities: Tensor  # [..., N]
    colors: Tensor  # [..., N, D]
    viewmats: Tensor  # [..., C, 4, 4]
    Ks: Tensor  # [..., C, 3, 3]
    backgrounds: Tensor | None = None  # [..., C, D]

    @property
    def gaussians(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """All but cameras and backgrounds."""
        return self.means, self.quats, self.scales, self.opacities, self.colors
