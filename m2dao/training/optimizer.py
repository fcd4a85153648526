"""Adam over named groups of parameters that density control may re-index.

Groups are the schedule's trainables. A parameter outside the present turn is neither stepped nor differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from m2dao.gaussians.density import DensityChange
from m2dao.gaussians.params import GaussianParams
from m2dao.motion.talking_head import TalkingHead
from m2dao.training.recipes import LearningRates

_BETAS, _EPS = (0.9, 0.99), 1e-15
_COLOR_NAMES = ("sh0", "shN")
_DECAYING = ("means", "planes", "networks")


class NamedAdam:
    """One fused Adam; which parameters move is decided each step."""

    def __init__(self, head: TalkingHead, rates: LearningRates):
        self._head, self._rates = head, rates
        self._groups: list[dict] = []
        for name, group in head.groups.items():
            for raw_name, parameter in group.raw.items():
                self._add(f"{name}.gaussians", raw_name, [parameter], owner=(name, raw_name))
        for name in ("facial", "oral", "torso"):
            field = getattr(head, name)
            if field is not None:
                planes = [p for key, p in field.named_parameters() if ".planes." in key]
                nets = [p for key, p in field.named_parameters() if ".planes." not in key]
                self._add(f"{name}.field", "planes", planes)
                self._add(f"{name}.field", "networks", nets)
        self._adam = torch.optim.Adam(self._groups, betas=_BETAS, eps=_EPS, fused=True)
        self._groups = self._adam.param_groups

    def _add(self, trainable: str, rate: str, params: list[nn.Parameter], owner: tuple[str, str] | None = None) -> None:
        lr = getattr(self._rates, rate)
        self._groups.append({"params": params, "lr": lr, "trainable": trainable, "rate": rate, "owner": owner})

    def select(self, trainables: tuple[str, ...], progress: float) -> None:
        """Switch to the parameters of a turn and set the step sizes for a progress of 0..1."""
        decay = self._rates.final_factor**progress
        for group in self._groups:
            active = group["trainable"] in trainables
            if "colors" in trainables and group["rate"] in _COLOR_NAMES:
                active = True
            group["lr"] = getattr(self._rates, group["rate"]) * (decay if group["rate"] in _DECAYING else 1.0)
            for parameter in group["params"]:
                parameter.requires_grad_(active)

    def step(self) -> bool:
        """Take the step, unless a gradient is not a number; says whether it did."""
        gradients = [parameter.grad for parameter in self._parameters() if parameter.grad is not None]
        # one sum over all of them: NaN and infinity survive every addition
        if not torch.isfinite(torch.stack(torch._foreach_norm(gradients, 1)).sum()):
            return False
        self._adam.step()
        self.forget()
        return True

    def forget(self) -> None:
        """Drop the gradients."""
        self._adam.zero_grad(set_to_none=True)

    def apply_density(self, name: str, change: DensityChange) -> None:
        """Give a group of Gaussians its new rows, keeping what Adam knows of the old ones."""
        group: GaussianParams = self._head.groups[name]
        group.tags = group.tags[change.rows]
        for entry in self._groups:
            if entry["owner"] is None or entry["owner"][0] != name:
                continue
            raw_name = entry["owner"][1]
            old = entry["params"][0]
            new = nn.Parameter(change.raw[raw_name], requires_grad=old.requires_grad)
            state = self._adam.state.pop(old, None)
            if state:
                for key in ("exp_avg", "exp_avg_sq"):
                    state[key] = state[key][change.rows].clone()
                    state[key][change.fresh] = 0
                self._adam.state[new] = state
            entry["params"][0] = new
            group.raw[raw_name] = new

    def state_tensors(self) -> dict[str, Tensor]:
        """Adam's memory, by position of the parameter."""
        out = {}
        for index, parameter in enumerate(self._parameters()):
            for key, value in self._adam.state.get(parameter, {}).items():
                out[f"{index}.{key}"] = value
        return out

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_tensors` gave for parameters of the same shapes."""
        parameters = self._parameters()
        for name, value in tensors.items():
            index, key = name.split(".")
            parameter = parameters[int(index)]
            self._adam.state.setdefault(parameter, {})[key] = value.to(parameter.device, copy=True)

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self._groups for parameter in group["params"]]
