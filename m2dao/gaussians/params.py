"""Raw, trainable Gaussian parameters and their activated form.

Raw and activated values have different types, so that a log scale can never be taken for a length.
Shapes: N Gaussians, B spherical-harmonic bases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from m2dao.errors import CheckpointCorrupt

RAW_NAMES = ("means", "quats", "scales", "opacities", "sh0", "shN")


@dataclass(frozen=True, kw_only=True)
class Gaussians:
    """Activated Gaussians: lengths are positive, opacities lie in 0..1, quaternions have unit length."""

    means: Tensor  # [N, 3]
    quats: Tensor  # [N, 4] wxyz
    scales: Tensor  # [N, 3] standard deviations, metres
    opacities: Tensor  # [N]
    sh0: Tensor  # [N, 3]
    shN: Tensor  # [N, B - 1, 3]


def activated(raw: Mapping[str, Tensor]) -> Gaussians:
    """The Gaussians that raw parameters stand for, by the names of ``RAW_NAMES``."""
    return Gaussians(
        means=raw["means"],
        quats=nn.functional.normalize(raw["quats"], dim=-1),
        scales=raw["scales"].exp(),
        opacities=raw["opacities"].sigmoid(),
        sh0=raw["sh0"],
        shN=raw["shN"],
    )


class GaussianParams(nn.Module):
    """One group of Gaussians in raw form: log scales and logit opacities, plus an integer tag for each.

    Args:
        raw: every name of ``RAW_NAMES`` and any further per-Gaussian parameter (first dimension N).
        tags: [N] uint8, what part a Gaussian belongs to; never trained.
    """

    tags: Tensor  # [N] uint8

    def __init__(self, raw: dict[str, Tensor], tags: Tensor):
        super().__init__()
        self.raw = nn.ParameterDict({name: nn.Parameter(raw[name].float().contiguous()) for name in raw})
        self.register_buffer("tags", tags.to(torch.uint8))

    def __len__(self) -> int:
        return self.tags.shape[0]

    def activate(self) -> Gaussians:
        """The Gaussians these parameters stand for."""
        return activated({name: self.raw[name] for name in RAW_NAMES})

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to rebuild this group."""
        return {**{name: value.detach() for name, value in self.raw.items()}, "tags": self.tags}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], *, source: str) -> GaussianParams:
        """Rebuild a group.

        Raises:
            CheckpointCorrupt: a tensor is missing or its first dimension differs from the others.
        """
        missing = [name for name in (*RAW_NAMES, "tags") if name not in tensors]
        if missing:
            raise CheckpointCorrupt(source, f"tensors {', '.join(RAW_NAMES)} and tags", f"no {', '.join(missing)}")
        lengths = {name: value.shape[0] for name, value in tensors.items()}
        if len(set(lengths.values())) != 1:
            raise CheckpointCorrupt(source, "one number of Gaussians in all tensors", str(lengths))
        bad = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
        if bad:
            raise CheckpointCorrupt(source, "finite numbers", f"NaN or infinity in {', '.join(bad)}")
        raw = {name: value for name, value in tensors.items() if name != "tags"}
        return cls(raw, tensors["tags"])


def raw_gaussians(
    means: Tensor,
    rgb: Tensor,
    scale_m: Tensor,
    *,
    opacity: float = 0.8,
    sh_degree: int = 1,
) -> dict[str, Tensor]:
    """Raw parameters of round Gaussians.

    Args:
        means: [N, 3] metres.
        rgb: [N, 3] in 0..1.
        scale_m: [N] standard deviation, metres.
        opacity: the opacity all start with.
        sh_degree: 0, 1 or 2.
    """
    from m2dao.gaussians.sh import NUM_BASES, sh0_from_rgb

    num = means.shape[0]
    quats = torch.zeros(num, 4)
    quats[:, 0] = 1.0
    return {
        "means": means.float(),
        "quats": quats,
        "scales": scale_m.float().clamp_min(1e-5).log()[:, None].repeat(1, 3),
        "opacities": torch.full((num,), float(torch.logit(torch.tensor(opacity)))),
        "sh0": sh0_from_rgb(rgb.float()),
        "shN": torch.zeros(num, NUM_BASES[sh_degree] - 1, 3),
    }
