"""Deformation fields: what moves a canonical Gaussian in one frame.

Two fields with one interface. A field turns canonical positions into *static features* (once for an identity, once a
step in training) and static features plus the frame's motion codes into a :class:`MotionDelta`.

``FactoredField`` separates what is static from what moves,

    d(x, c) = sum_g a_g(x) h(x) · (W_g c_g),        h(x) = MLP(tri-plane(x))

with one region attention ``a_g`` for each group of codes (sound, eyes, brows, pose). A frame costs one product for each
Gaussian and each group that moves it. The field is linear in its codes, like blendshapes. The codes may be any function
of sound and expression.

``ConcatField`` is the field of TalkingGaussian (Li et al., 2024, section 3.2): an MLP over tri-plane features and
attended codes, evaluated for every Gaussian in every frame.

Both start as the identity, because their last layer is zero.
Shapes: N Gaussians, H hidden features, G code groups, K_g entries of group g; ``...`` nothing, frames, or places in a
stack of people.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from m2dao.errors import ConfigError
from m2dao.motion.linear import Linear, times
from m2dao.motion.triplane import TriPlane

_OUTPUT_SCALES = (1e-2,) * 3 + (0.1,) * 4 + (0.2,) * 3 + (0.2,) * 3  # metres, quaternion, log scale, colour
NUM_OUTPUTS = len(_OUTPUT_SCALES)
MAX_D_SCALE = 1.0  # of a log scale: no voice may swell a Gaussian by more than e, or shrink it by more
SCALE_COLUMNS = slice(7, 10)  # of a motion


class MotionDelta(NamedTuple):
    """What a field adds to canonical Gaussians."""

    d_means: Tensor  # [N, 3] metres
    d_quats: Tensor  # [N, 4] added before normalisation
    d_scales: Tensor  # [N, 3] added to log scales
    d_colors: Tensor  # [N, 3] added to RGB


class FieldMotion(NamedTuple):
    """What a field does to Gaussians in one frame."""

    features: Tensor  # [..., N, H + G] hidden features, then attentions; without a matrix [..., N, 13], the motion
    matrix: Tensor | None = None  # [..., G, H, 13]

    def total(self) -> Tensor:
        """[..., N, 13]."""
        if self.matrix is None:
            return self.features
        num_groups, num_hidden, _ = self.matrix.shape[-3:]
        hidden, attention = self.features.split((num_hidden, num_groups), dim=-1)
        by_group = hidden @ self.matrix.transpose(-3, -2).flatten(-2)  # [..., N, G * 13]
        return (by_group.unflatten(-1, (num_groups, NUM_OUTPUTS)) * attention[..., None]).sum(dim=-2)


def sum_motions(motions: tuple[FieldMotion, ...]) -> MotionDelta:
    """What several fields do to the same Gaussians together; leading dimensions broadcast."""
    total = motions[0].total()
    for motion in motions[1:]:
        total = total + motion.total()
    d_means, d_quats, d_scales, d_colors = total.split((3, 4, 3, 3), dim=-1)
    return MotionDelta(d_means, d_quats, d_scales.clamp(-MAX_D_SCALE, MAX_D_SCALE), d_colors)


class Falloff(nn.Module):
    """Where a group of codes moves anything: fully near some points, not at all far from them.

    Without it a field overfits: every frame's sound differs from every other's. So sound would put hair right that the
    pose misplaces in the recording, and the next sentence would send it astray.

    Args:
        points: [P, 3] metres.
        near_m, far_m: distances from the nearest point where it begins to fade and where it ends.
    """

    points: Tensor  # [P, 3]

    def __init__(self, points: Tensor, near_m: float, far_m: float):
        super().__init__()
        self.register_buffer("points", points.float().clone(), persistent=False)
        self.near_m, self.far_m = near_m, far_m

    def forward(self, means: Tensor) -> Tensor:
        """[N, 3] -> [N] in 0..1, smooth."""
        distance = torch.cdist(means, self.points).amin(dim=1)
        inward = ((self.far_m - distance) / (self.far_m - self.near_m)).clamp(0, 1)
        return inward * inward * (3 - 2 * inward)


class FactoredField(nn.Module):
    """Static features of points times a per-frame matrix.

    Args:
        box_min, box_max: where the field lives, metres, 3 numbers each.
        code_sizes: K_g for each group of codes.
        falloffs: of the first groups of codes; any others move everything.
        resolutions, num_features: of the tri-plane.
        hidden_size: H, a multiple of 16.

    Raises:
        ConfigError: another H.
    """

    output_scales: Tensor  # [13]

    def __init__(
        self,
        box_min: Tensor,
        box_max: Tensor,
        *,
        code_sizes: tuple[int, ...],
        falloffs: tuple[Falloff, ...] = (),
        resolutions: tuple[int, ...] = (16, 48),
        num_features: int = 6,
        hidden_size: int = 48,
    ):
        super().__init__()
        if hidden_size % 16:
            raise ConfigError(
                "hidden_size of a factored field", "a multiple of 16, as its kernels take it", str(hidden_size)
            )
        self.triplane = TriPlane(box_min, box_max, resolutions, num_features)
        self.mlp = nn.Sequential(
            nn.Linear(self.triplane.num_outputs, hidden_size),
            nn.SiLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.SiLU(),
        )
        self.attention = nn.Linear(hidden_size, len(code_sizes))
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.zeros(size, hidden_size * NUM_OUTPUTS)) for size in code_sizes]
        )
        self.register_buffer("output_scales", torch.tensor(_OUTPUT_SCALES), persistent=False)
        self.falloffs = nn.ModuleList(falloffs)

    def static_features(self, means: Tensor, weights: Tensor | None = None) -> Tensor:
        """Hidden features and attentions of points, whose motion counts by weights [N]: [N, 3] -> [N, H + G]."""
        hidden = self.mlp(self.triplane(means))  # [N, H]
        attention = self.attention(hidden).sigmoid()  # [N, G]
        if self.falloffs:
            within = torch.stack([falloff(means) for falloff in self.falloffs], dim=1)
            free = attention.shape[1] - within.shape[1]
            attention = attention * nn.functional.pad(within, (0, free), value=1.0)
        if weights is not None:
            attention = attention * weights[:, None]
        return torch.cat([hidden, attention], dim=1)

    def frame(self, codes: tuple[Tensor, ...]) -> Callable[[Tensor], FieldMotion]:
        """What the field does in one frame, a function of what :meth:`static_features` gave.

        Args:
            codes: G tensors [..., K_g]; those of several frames, or of several people's fields, in front.
        """
        return partial(FieldMotion, matrix=self.frame_matrix(codes))

    def frame_matrix(self, codes: tuple[Tensor, ...]) -> Tensor:
        """What a frame multiplies hidden features with: G tensors [..., K_g] -> [..., G, H, 13]."""
        rows = [times(code, weight) for code, weight in zip(codes, self.weights, strict=True)]
        blocks = torch.stack(rows, dim=-2).unflatten(-1, (-1, NUM_OUTPUTS))
        return blocks * self.output_scales[..., None, None, :]


CONCAT_SCALES = _OUTPUT_SCALES[:-3]  # the published face keeps its colours
PUBLISHED_MOUTH_SCALES = (0.2e-2, 1e-2, 0.2e-2)  # metres: the published mouth moves up and down more than otherwise


class ConcatField(nn.Module):
    """TalkingGaussian's field; arguments as in :class:`FactoredField`.

    Args:
        output_scales: of the first outputs; there are no others.
    """

    output_scales: Tensor  # [M]

    def __init__(
        self,
        box_min: Tensor,
        box_max: Tensor,
        *,
        code_sizes: tuple[int, ...],
        resolutions: tuple[int, ...],
        num_features: int = 1,
        hidden_size: int = 64,
        output_scales: tuple[float, ...] = CONCAT_SCALES,
    ):
        super().__init__()
        self.triplane = TriPlane(box_min, box_max, resolutions, num_features)
        num_inputs = self.triplane.num_outputs
        self.attention = Linear(num_inputs, sum(code_sizes))
        self.mlp = nn.Sequential(
            Linear(num_inputs + sum(code_sizes), hidden_size),
            nn.ReLU(),
            Linear(hidden_size, hidden_size),
            nn.ReLU(),
            Linear(hidden_size, hidden_size),
            nn.ReLU(),
            Linear(hidden_size, len(output_scales)),
        )
        for parameter in self.mlp[-1].parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("output_scales", torch.tensor(output_scales), persistent=False)

    def static_features(self, means: Tensor, weights: Tensor | None = None) -> Tensor:
        """Tri-plane features of points and weights of their motion: [N, 3] -> [N, features + 1]."""
        weights = means.new_ones(len(means)) if weights is None else weights
        return torch.cat([self.triplane(means), weights[:, None]], dim=1)

    def frame(self, codes: tuple[Tensor, ...]) -> Callable[[Tensor], FieldMotion]:
        """What the field does in one frame; see :meth:`FactoredField.frame`."""
        return partial(self._motion, torch.cat(codes, dim=-1))

    def _motion(self, codes: Tensor, features: Tensor) -> FieldMotion:
        features, weights = features[..., :-1], features[..., -1:]
        attended = self.attention(features).relu() * codes[..., None, :]  # [..., N, K]
        inputs = torch.cat([features.expand(*attended.shape[:-1], -1), attended], dim=-1)
        out = self.mlp(inputs) * self.output_scales[..., None, :] * weights
        return FieldMotion(nn.functional.pad(out, (0, NUM_OUTPUTS - out.shape[-1])))


Field = FactoredField | ConcatField
