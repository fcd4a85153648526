"""Adam over named groups of parameters that density control may re-index.

Groups are the schedule's trainables. A parameter outside the present phase is neither stepped nor differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from m2dao.gaussians.density import DensityChange
from m2dao.gaussians.params import GaussianParams
from m2dao.motion.talking_head import TalkingHead
from m2dao.training.recipes import LearningRates

_BETAS, _EPS = (0.9, 0.99), 1e-15
_COLOR_NAMES = ("sh0", "shN")
_DECAYING = ("means", "planes", "networks")


@dataclass
class _Entry:
    """One parameter and what decides whether and how far it moves."""

    parameter: nn.Parameter
    trainable: str
    rate: str
    owner: tuple[str, str] | None = None  # group of Gaussians and raw name


class NamedAdam:
    """One fused Adam; which parameters move is decided each step.

    Parameters of one rate are one group of Adam's, whatever part of the head they belong to: a group costs a call.
    Encoders of sound that are learned with the picture stay on the CPU, wherever the head lies.
    """

    def __init__(self, head: TalkingHead, rates: LearningRates, sound: nn.Module | None = None):
        self._head, self._rates = head, rates
        self._entries: list[_Entry] = []
        for name, group in head.groups.items():
            for raw_name, parameter in group.raw.items():
                self._entries.append(_Entry(parameter, f"{name}.gaussians", raw_name, (name, raw_name)))
        for name, field in head.fields.items():
            planes = [p for key, p in field.named_parameters() if ".planes." in key]
            nets = [p for key, p in field.named_parameters() if ".planes." not in key]
            self._entries += [_Entry(parameter, f"{name}.field", "planes") for parameter in planes]
            self._entries += [_Entry(parameter, f"{name}.field", "networks") for parameter in nets]
        if sound is not None:
            self._entries += [_Entry(parameter, "sound", "networks") for parameter in sound.parameters()]
        names = dict.fromkeys(entry.rate for entry in self._entries)
        groups = [{"params": [entry.parameter for entry in self._entries if entry.rate == rate]} for rate in names]
        self._adam = torch.optim.Adam(groups, lr=0.0, betas=_BETAS, eps=_EPS, fused=True)
        self._groups = dict(zip(names, self._adam.param_groups, strict=True))

    def select(self, trainables: tuple[str, ...], progress: float) -> None:
        """Switch to the parameters of a phase and set the step sizes for a progress of 0..1."""
        decay = self._rates.final_factor**progress
        for rate, group in self._groups.items():
            group["lr"] = getattr(self._rates, rate) * (decay if rate in _DECAYING else 1.0)
        for entry in self._entries:
            of_colors = "colors" in trainables and entry.rate in _COLOR_NAMES
            entry.parameter.requires_grad_(of_colors or entry.trainable in trainables)

    def step(self) -> bool:
        """Take the step, unless a gradient is not finite; says whether it did."""
        gradients = []
        for parameter in self._parameters():
            if parameter.grad is not None:
                # The fused step reads memory in the parameter's order, whatever order the gradient says it has.
                parameter.grad = parameter.grad.contiguous()
                gradients.append(parameter.grad)
        # one sum over all of them: NaN and infinity survive every addition
        home = self._entries[0].parameter.device
        if not torch.isfinite(torch.stack([gradient.sum().to(home) for gradient in gradients]).sum()):
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
        for entry in self._entries:
            if entry.owner is None or entry.owner[0] != name:
                continue
            raw_name, old = entry.owner[1], entry.parameter
            new = nn.Parameter(change.raw[raw_name], requires_grad=old.requires_grad)
            state = self._adam.state.pop(old, None)
            if state:
                for key in ("exp_avg", "exp_avg_sq"):
                    state[key] = state[key][change.rows].clone()
                    state[key][change.fresh] = 0
                self._adam.state[new] = state
            params = self._groups[entry.rate]["params"]
            params[next(at for at, parameter in enumerate(params) if parameter is old)] = new
            entry.parameter = group.raw[raw_name] = new

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
        return [entry.parameter for entry in self._entries]
