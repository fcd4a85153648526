"""Random first parameters that depend on a seed and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def initialized_by(seed: int) -> Iterator[None]:
    """Layers made inside get the parameters of this seed; the caller's random state stays what it was.

    PyTorch's layers draw from the generator of the whole process and take no other. So we lend it to them.
    """
    before = torch.random.get_rng_state()
    torch.random.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(before)
