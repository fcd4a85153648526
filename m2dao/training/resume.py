"""Step checkpoints: all a fit needs to go on as if it had not been stopped.

Frame order and random offsets are functions of seed and step, so parameters, Adam's memory and the screen gradients
collected so far are the whole state.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from m2dao.errors import CheckpointCorrupt
from m2dao.files import whole_file
from m2dao.formats import STEP_CHECKPOINT_VERSION

_NAME = "step.safetensors"


class StepState(NamedTuple):
    """A fit at rest."""

    step: int
    elapsed_s: float
    progress: float
    key: str  # what is being fitted to what; another key means another fit
    tensors: dict[str, Tensor]


def save_step(folder: Path, state: StepState) -> None:
    """Write a step checkpoint; the former one stays until the new one is whole."""
    meta = {
        "version": STEP_CHECKPOINT_VERSION,
        "step": state.step,
        "elapsed_s": state.elapsed_s,
        "progress": state.progress,
        "key": state.key,
    }
    tensors = {name: value.detach().contiguous() for name, value in state.tensors.items()}
    with whole_file(folder / _NAME) as aside:
        save_file(tensors, aside, metadata={"fit": json.dumps(meta)})


def load_step(folder: Path, key: str) -> StepState | None:
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
    return StepState(int(meta["step"]), float(meta["elapsed_s"]), float(meta["progress"]), key, tensors)


def discard_step(folder: Path) -> None:
    """Remove the step checkpoint of a fit that is done."""
    (folder / _NAME).unlink(missing_ok=True)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
