"""The measured figures that a plan is made of, each with the command that measures it anew."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from types import MappingProxyType

from m2dao.errors import ServiceError

_GAUSSIANS = {256: 13_500, 512: 30_000}
_SECONDS = 8


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure.

    Args:
        name: what a plan calls it.
        value: in ``unit``.
        unit: empty for a ratio.
        what: it is, in words.
        command: measures it.
        source: the page that tells of the measurement.
        hardware: on which it was measured.
    """

    name: str
    value: float
    unit: str
    what: str
    command: str
    source: str
    hardware: str

    def told(self, value: float) -> Figure:
        """The same figure with a value that somebody else has measured."""
        return replace(self, value=value, what="given by an option", source="--stream-cores", hardware="yours")


@functools.cache
def measured() -> Mapping[str, Figure]:
    """The figures that came with this release, by name."""
    values = json.loads((files(__package__) / "figures.json").read_text(encoding="utf-8"))
    return MappingProxyType({row["name"]: Figure(**row, hardware=values["hardware"]) for row in values["figures"]})


def measure_stream(size: int) -> Figure:
    """What a stream takes on this machine, measured now, with all of its cores.

    Raises:
        ServiceError: the measurement failed.
    """
    words = ["bench", "render", "--backend", "cpu", "--seconds", str(_SECONDS), "--size", str(size)]
    words += ["--gaussians", str(_GAUSSIANS[size]), "--json"]
    ran = subprocess.run([sys.executable, "-m", "m2dao.cli", *words], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise ServiceError("m2dao " + " ".join(words), "exit code 0", f"{ran.returncode}: {ran.stderr[-300:]}")
    num_cores = len(os.sched_getaffinity(0))
    factor = float(json.loads(ran.stdout)["talker_real_time_factor"])
    what = f"for a stream of 25 frames a second at {size} px: real-time factor {factor:.2f} on all of {num_cores} cores"
    return replace(
        measured()[f"stream_cores_{size}"],
        value=round(factor * num_cores, 3),
        what=what,
        source="measured now",
        hardware="this machine",
    )
