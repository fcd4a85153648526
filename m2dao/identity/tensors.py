"""Named tensors in a file: reading them, and those of one part."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from m2dao.errors import CheckpointCorrupt


def load_tensors(path: Path, *, remedy: str = "") -> dict[str, Tensor]:
    """Tensors of a safetensors file, as they are stored.

    Raises:
        CheckpointCorrupt: it cannot be read.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointCorrupt(str(path), "a safetensors file", str(error), remedy) from error


def part_of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of the name."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
