"""Step checkpoints: all a fit needs to go on as if it had not been stopped.

Frame order and random offsets are functions of seed and step, so parameters, Adam's memory and the screen gradients
collected so far are the whole state. Nothing but this module knows what is stored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from m2dao.errors import CheckpointCorrupt
from m2dao.files import whole_file
from m2dao.formats import STEP_CHECKPOINT_VERSION
from m2dao.gaussians.params import GaussianParams
from m2dao.identity.tensors import part_of, save_tensors
from m2dao.motion.initialization import initialized_by
from m2dao.motion.speech import SpeechConfig, SpeechDriver
from m2dao.motion.talking_head import TalkingHead
from m2dao.training.speech.fit_driver import SpeechFit
from m2dao.training.state import Fit

_NAME = "step.safetensors"


class StepCheckpoint(NamedTuple):
    """A fit at rest."""

    step: int
    elapsed_s: float
    progress: float
    key: str  # what is being fitted to what; another key means another fit
    tensors: dict[str, Tensor]
    source: str  # the file

    @initialized_by(0)  # those of the files replace them
    def voice(self, config: SpeechConfig) -> SpeechFit:
        """The audio encoders as they were learned."""
        driver = SpeechDriver(config)
        driver.load_state_dict(part_of(self.tensors, "speech."))
        return SpeechFit(driver.eval(), float(self.tensors["speech_held_out_r"]), self.tensors["speech_gain"])

    def restore_head(self, head: TalkingHead) -> None:
        """Give a head its parameters; groups of Gaussians may have another size than their seeds."""
        for name in list(head.groups):
            stored = part_of(self.tensors, f"head.groups.{name}.")
            tensors = part_of(stored, "raw.") | {"tags": stored["tags"]}
            head.groups[name] = GaussianParams.from_tensors(tensors, source=self.source)
        head.load_state_dict(part_of(self.tensors, "head."))

    def restore_progress(self, fit: Fit) -> None:
        """Give a fit with the restored head everything else."""
        fit.step, fit.clock.elapsed_before_s = self.step, self.elapsed_s
        fit.order.skipped = set(self.tensors["poisoned"].tolist())
        fit.adam.load_state_tensors(part_of(self.tensors, "adam."))
        for name, value in fit.gradients.items():
            value.total = self.tensors[f"gradients.{name}.total"].to(fit.device)
            value.count = self.tensors[f"gradients.{name}.count"].to(fit.device)


def save_checkpoint(fit: Fit) -> None:
    """Write a step checkpoint between blocks of steps; the former one stays until the new one is whole."""
    tensors = _prefixed("head.", fit.head.state_dict()) | _prefixed("adam.", fit.adam.state_tensors())
    tensors |= _prefixed("speech.", fit.data.voice.driver.state_dict())
    for name, value in fit.gradients.items():
        tensors |= {f"gradients.{name}.total": value.total, f"gradients.{name}.count": value.count}
    tensors["speech_held_out_r"] = torch.tensor(fit.data.voice.held_out_r, dtype=torch.float64)
    tensors["speech_gain"] = fit.data.voice.gain
    tensors["poisoned"] = torch.tensor(sorted(fit.order.skipped), dtype=torch.int64)
    meta = {
        "version": STEP_CHECKPOINT_VERSION,
        "step": fit.step,
        "elapsed_s": fit.clock.elapsed_s(),
        "progress": fit.progress,
        "key": fit.key,
    }
    whole = {name: value.detach().contiguous() for name, value in tensors.items()}
    with whole_file(fit.config.work_dir / _NAME) as aside:
        save_tensors(whole, aside, metadata={"fit": json.dumps(meta)})


def load_checkpoint(folder: Path, key: str) -> StepCheckpoint | None:
    """The step checkpoint in a folder, or None if there is none for this key.

    Raises:
        CheckpointCorrupt: there is one, but it cannot be read.
    """
    path = folder / _NAME
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads(file.metadata()["fit"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointCorrupt(
            str(path), "a step checkpoint", str(error), "delete it to start the fit afresh"
        ) from error
    if meta.get("version") != STEP_CHECKPOINT_VERSION or meta.get("key") != key:
        return None
    return StepCheckpoint(int(meta["step"]), float(meta["elapsed_s"]), float(meta["progress"]), key, tensors, str(path))


def discard_checkpoint(folder: Path) -> None:
    """Remove the step checkpoint of a fit that is done."""
    (folder / _NAME).unlink(missing_ok=True)


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in tensors.items()}
