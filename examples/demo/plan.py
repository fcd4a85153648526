"""Divides the demo's time, and names its people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

# Seconds that steps take on two idle cores besides the optimisation itself, from runs of the demo. They decide only how
# much of the time the fits get.
STACK_S = 20.0
PRESENTERS_S = 45.0
JOB_START_S = 25.0
PREPARE_PER_SECOND = 1.8  # of recording, when as many run as there are cores
EVALUATE_S = 25.0
DEPLOY_S = 30.0
RENDER_PER_SECOND = 2.5  # of speech: render, download, check
STOP_S = 15.0
SPARE_S = 20.0
MIN_FIT_MINUTES, MAX_FIT_MINUTES = 2.0, 30.0  # in a minute a busy machine only gets ready


def slowness(start_s: float, *, made_presenters: bool) -> float:
    """How much slower this machine is than that of the figures, by how long the start took; 1 to 4."""
    return min(max(start_s / (STACK_S + PRESENTERS_S * made_presenters), 1.0), 4.0)


def fit_minutes(
    left_s: float, *, num_fits: int, recording_s: float, speech_s: float, num_cores: int, slowness: float = 1.0
) -> float:
    """How long each fit may take so that everything else still fits into the time that is left.

    Args:
        left_s: seconds until the demo should be over.
        num_fits: recordings.
        recording_s: length of the longest recording in seconds.
        speech_s: length of all speech that is rendered, in seconds.
        num_cores: fits that run at the same time.
        slowness: of this machine.
    """
    waves = -(-num_fits // max(num_cores, 1))
    others = slowness * (JOB_START_S + DEPLOY_S + STOP_S + RENDER_PER_SECOND * speech_s) + SPARE_S
    around_each = slowness * (PREPARE_PER_SECOND * recording_s + EVALUATE_S)
    minutes = ((left_s - others) / waves - around_each) / 60
    return round(min(max(minutes, MIN_FIT_MINUTES), MAX_FIT_MINUTES), 2)


def identity_names(videos: Sequence[Path]) -> list[str]:
    """Identity names from file names: what is allowed of them, each once."""
    names: list[str] = []
    for path in videos:
        plain = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:32].strip("-") or "person"
        name = next(n for n in (plain, *(f"{plain}-{i}" for i in range(2, len(videos) + 2))) if n not in names)
        names.append(name)
    return names
