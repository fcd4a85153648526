"""What the platform adds to fits: upload, workers, leases, registration, evaluation's bookkeeping."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from cluster.ids import TenantId
from m2dao.errors import ServiceError
from serve_apps.bench.site import Say, Site

_PEOPLE = ("mira", "omar")
_RECORDING_S, _RECORDING_SIZE = 6.0, 256  # pixels; in smaller ones the face is refused as too small
_FIT_MINUTES = 0.25
_OPTIONS = ("--size", "64", "--capture-size", "128", "--evaluate-frames", "10", "--protocols", "paper")
_OF_A_FIT = ("prepare", "fit", "evaluate")  # the stages that the engine alone would take too
_TIMEOUT_S = 3000.0


def measure_fits(site: Site, *, num_identities: int, say: Say) -> dict[str, Any]:
    """Fit some people at once by the command line, and compare with what the fits themselves took."""
    site.platform.state.accounts.create_tenant(TenantId("fits"))
    recordings = [_recording(site, name, say) for name in _PEOPLE[:num_identities]]
    people = [f"{_PEOPLE[n % len(recordings)]}{n}={recordings[n % len(recordings)]}" for n in range(num_identities)]
    words = [word for person in people for word in ("--identity", person)]
    say(f"{num_identities} fits of {60 * _FIT_MINUTES:.0f} s of optimisation each")
    began = time.monotonic()
    fit = ("train_jobs.cli", "fit", "--tenant", "fits", *words, *_OPTIONS, "--minutes", str(_FIT_MINUTES), "--json")
    answer = json.loads(site.command(*fit, timeout_s=_TIMEOUT_S))
    seconds = time.monotonic() - began
    stages = [_stages(fit) for fit in answer["fits"]]
    for name in stages[0]:
        say(f"{name}: {sum(each.get(name, 0.0) for each in stages):.1f} s of all fits together")
    alone_s = sum(each.get(name, 0.0) for each in stages for name in _OF_A_FIT) / _num_workers(num_identities)
    return {
        "num_identities": num_identities,
        "overhead_ratio": round(seconds / alone_s, 3) if alone_s else math.nan,
        "seconds": round(seconds, 1),
    }


def _recording(site: Site, name: str, say: Say) -> Path:
    say(f"filming {name}, who does not exist")
    words = (
        "--out",
        str(site.folder),
        "--person",
        name,
        "--seconds",
        str(_RECORDING_S),
        "--size",
        str(_RECORDING_SIZE),
        "--json",
    )
    made = json.loads(site.command("m2dao.cli", "presenter", *words))
    return Path(made["recordings"][0]["video"])


def _stages(fit: dict[str, Any]) -> dict[str, float]:
    """Seconds of each stage of a fit that is done."""
    if fit["status"] != "done":
        raise ServiceError(f"fit {fit['id']}", "done", f"{fit['status']}: {fit['error']}")
    return {name: float(value) for name, value in fit["result"]["seconds"].items()}


def _num_workers(num_fits: int) -> int:
    """How many fits run at the same time where nothing else holds cores."""
    return min(num_fits, os.cpu_count() or 1)
