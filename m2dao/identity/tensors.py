"""Named tensors in a file: writing and reading them, and those of one part."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from m2dao.errors import CheckpointCorrupt

_SYSTEM = re.compile(r"\(os error (\d+)\)")


def save_tensors(tensors: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write contiguous tensors as a safetensors file.

    Raises:
        OSError: the file cannot be written; a full disk is not the tensors' fault.
    """
    try:
        save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:
        found = _SYSTEM.search(str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from error


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
