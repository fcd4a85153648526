"""ST-LPIPS: perceptual distance that forgives a shift of a pixel (Ghildyal and Liu, ECCV 2022).

The published trunk weights of plain LPIPS cannot be had here; this metric has its own trunk (AlexNet with stride 1 at
the input and blurred pooling) and heads. **Its figures do not compare with published LPIPS.** Smaller is better.

Shapes: N images, H rows, W columns.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2dao.assets import asset_path
from m2dao.errors import AssetCorrupt, InputError

ASSET = "lpips_alex"
MIN_SIDE = 32

# Statistics that the trunk's input is normalised with; input in -1..1.
INPUT_SHIFT = (-0.030, -0.088, -0.188)
INPUT_SCALE = (0.458, 0.448, 0.450)

# The five stages whose outputs are compared.
CONVOLUTIONS = (
    ("net.slice1.0", 64, 3, 11, 2),
    ("net.slice2.5", 192, 64, 5, 2),
    ("net.slice3.9", 384, 192, 3, 1),
    ("net.slice4.11", 256, 384, 3, 1),
    ("net.slice5.13", 256, 256, 3, 1),
)  # key, channels out, channels in, kernel side, padding


class StLpips(nn.Module):
    """The metric; frozen, differentiable in the images.

    Args:
        weights_path: the published weight file; the locked asset by default.

    Raises:
        AssetError: the weight file cannot be had or is not what it should be.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, weights_path: Path | None = None):
        super().__init__()
        path = Path(weights_path) if weights_path else asset_path(ASSET)
        path = path if path.is_file() else next(path.glob("*.pth"))
        stored = _load_tensors(path)
        for stage, (key, *shape, _) in enumerate(CONVOLUTIONS):
            num_out, num_in, side = shape
            self.register_buffer(
                f"kernel{stage}", _tensor(stored, path, f"{key}.weight", (num_out, num_in, side, side))
            )
            self.register_buffer(f"bias{stage}", _tensor(stored, path, f"{key}.bias", (num_out,)))
            self.register_buffer(
                f"head{stage}", _tensor(stored, path, f"lin{stage}.model.1.weight", (1, num_out, 1, 1))
            )
        self.register_buffer("shift", torch.tensor(INPUT_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(INPUT_SCALE).view(1, 3, 1, 1))

    def forward(self, image: Tensor, target: Tensor) -> Tensor:  # two of [N, H, W, 3] or [H, W, 3] -> [N] or []
        """Distance of each pair, 0 for equal images.

        Args:
            image: float 0..1, sides of at least 32 pixels.
            target: the same shape.
        """
        if image.shape != target.shape or image.ndim not in (3, 4) or image.shape[-1] != 3:
            raise InputError("ST-LPIPS", "two images [N, H, W, 3] of one shape", f"{[*image.shape]}, {[*target.shape]}")
        if min(image.shape[-3:-1]) < MIN_SIDE:
            raise InputError(
                "ST-LPIPS", f"sides of at least {MIN_SIDE} pixels", str([*image.shape]), "enlarge the images"
            )
        single = image.ndim == 3
        if single:
            image, target = image[None], target[None]
        distance = self.distance(self.features(image), self.features(target))
        return distance[0] if single else distance

    def features(self, image: Tensor) -> list[Tensor]:  # [N, H, W, 3] -> five of [N, C, h, w]
        """Outputs of the five stages, each pixel's channels scaled to unit length.

        For comparing many images with one target, whose features can be kept: ``distance``.
        """
        hidden = (image.permute(0, 3, 1, 2) * 2 - 1 - self.shift) / self.scale
        outputs = []
        for stage in range(len(CONVOLUTIONS)):
            if stage in (1, 2):
                hidden = blur_pool(F.max_pool2d(hidden, kernel_size=3, stride=1))
            hidden = F.conv2d(
                hidden, getattr(self, f"kernel{stage}"), getattr(self, f"bias{stage}"), padding=CONVOLUTIONS[stage][-1]
            )
            if stage == 0:
                hidden = blur_pool(hidden)
            hidden = F.relu(hidden)
            outputs.append(hidden / (hidden.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return outputs

    def distance(self, features: list[Tensor], target_features: list[Tensor]) -> Tensor:  # -> [N]
        """Distance of images whose ``features`` are known."""
        total = torch.zeros(())
        for stage, (one, other) in enumerate(zip(features, target_features, strict=True)):
            head = getattr(self, f"head{stage}")
            total = total + ((one - other).square() * head).sum(dim=1).mean(dim=(1, 2))
        return total


def blur_pool(maps: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, H / 2 + 1, W / 2 + 1]
    """Halve the resolution after a binomial blur [1, 2, 1] both ways (Zhang, ICML 2019), reflected by two."""
    padded = F.pad(maps, (2, 2, 2, 2), mode="reflect")
    # Slices instead of a depthwise convolution: a weighted sum of four corners, four edges and the centre.
    rows = padded[:, :, :-2:2] + 2 * padded[:, :, 1:-1:2] + padded[:, :, 2::2]
    return (rows[..., :-2:2] + 2 * rows[..., 1:-1:2] + rows[..., 2::2]) / 16


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        # weights_only refuses everything but tensors, so the file cannot run code.
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged archive
        raise AssetCorrupt(str(path), "a file of tensors", repr(error), "fetch it again: m2dao assets fetch") from error
    if not isinstance(stored, dict):
        raise AssetCorrupt(str(path), "a table of tensors", type(stored).__name__, "fetch it again: m2dao assets fetch")
    return stored


def _tensor(stored: dict[str, Tensor], path: Path, key: str, shape: tuple[int, ...]) -> Tensor:
    value = stored.get(key)
    if not isinstance(value, Tensor) or tuple(value.shape) != shape or not value.isfinite().all():
        got = "nothing" if value is None else str(getattr(value, "shape", type(value)))
        raise AssetCorrupt(f"{key} in {path}", f"finite numbers of shape {list(shape)}", got)
    return value.float().clone()
