"""Linear maps of several people's parameters at once.

What moves Gaussians is written once, for one frame, for frames of one person, and for frames of several people. Codes
and conditions then have frames in front, and in the last case parameters have them too. PyTorch's own layers take
parameters of one person only.
"""

from __future__ import annotations

from torch import Tensor, nn


class Linear(nn.Linear):
    """``torch.nn.Linear`` whose parameters may be replaced by those of several people.

    Its weight is [..., outputs, inputs] then, and its bias [..., outputs].
    """

    def forward(self, input: Tensor) -> Tensor:
        """[..., N, inputs] -> [..., N, outputs]; leading dimensions broadcast."""
        if self.weight.dim() == 2:
            return nn.functional.linear(input, self.weight, self.bias)
        out = input @ self.weight.transpose(-1, -2)
        return out if self.bias is None else out + self.bias[..., None, :]


def one_row(layers: nn.Module, codes: Tensor) -> Tensor:
    """Layers applied to one row of numbers a frame: [..., inputs] -> [..., outputs]."""
    return layers(codes[..., None, :])[..., 0, :]


def times(codes: Tensor, weight: Tensor) -> Tensor:
    """One row of numbers a frame times a matrix: [..., K], [..., K, M] -> [..., M]."""
    return codes @ weight if weight.dim() == 2 else (codes[..., None, :] @ weight)[..., 0, :]
