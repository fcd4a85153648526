"""Compares rendered lips with recorded ones, and with the truth of a synthetic presenter.

No sound feature decides anything here: what drives the lips must not judge them. Only the loudness of the sound says
where somebody speaks.
Shapes: T frames, S samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from m2dao.audio.voice import ROW_S, VoiceTracker
from m2dao.errors import InputError
from m2dao.evaluation.metrics import lip_jitter, mean_of_known
from m2dao.evaluation.result import LipFigures, TruthFigures
from m2dao.figures import known
from m2dao.timeline import FRAME_RATE, SAMPLE_RATE, runs_of

CLOSED_BELOW = 0.012  # of the outer-eye distance
_SLACK_FRAMES = 1  # a render may close this much earlier or later
_MAX_CLOSURE_FRAMES = 8  # lips that stay together for longer rest; they close no sound
_ROW_SAMPLES = round(ROW_S * SAMPLE_RATE)
_VOICED = 0.5


class LipTruth(NamedTuple):
    """What a presenter's lips did, frame by frame."""

    lip_opening: np.ndarray  # [T] of the outer-eye distance
    closed: np.ndarray  # [T] bool, for m, b and p
    silent: np.ndarray  # [T] bool, in pauses in which the lips have settled

    def part(self, frames: range) -> LipTruth:
        """The same of some frames."""
        return LipTruth(*(values[frames.start : frames.stop] for values in self))


def read_lip_truth(path: Path, num_frames: int) -> LipTruth:
    """The lips of a ``NAME.truth.safetensors``, as `m2dao presenter` writes it.

    Raises:
        InputError: no such file, or one of fewer frames.
    """
    wanted = "the truth beside a presenter's recording"
    try:
        tensors = load_file(path)
        truth = LipTruth(tensors["lip_opening"], tensors["closed"] > 0, tensors["silent"] > 0)
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"truth {path}", wanted, f"{type(error).__name__}: {error}") from error
    if len(truth.closed) < num_frames:
        raise InputError(f"truth {path}", f"{wanted}, of {num_frames} frames", f"{len(truth.closed)} frames")
    return truth.part(range(num_frames))


def speech_frames(waveform: np.ndarray) -> np.ndarray:
    """Frames in which the sound is as loud as speech: [S] at 16 kHz, whole frames -> [T] bool."""
    tracker = VoiceTracker()
    powers = np.square(waveform.reshape(-1, _ROW_SAMPLES).astype(np.float64)).mean(axis=1)
    gates = np.array([tracker.update(float(power)) for power in powers])
    return gates.reshape(-1, round(1 / (ROW_S * FRAME_RATE))).max(axis=1) > _VOICED


def compare_lips(rendered: np.ndarray, recorded: np.ndarray, speech: np.ndarray) -> LipFigures:
    """Rendered lips beside recorded ones while somebody speaks.

    Args:
        rendered, recorded: [T] lip openings in outer-eye distances; NaN where there was no face.
        speech: [T] bool.
    """
    chosen = speech & np.isfinite(rendered) & np.isfinite(recorded)
    moves = chosen.sum() > 2 and np.ptp(recorded[chosen]) > 0
    return LipFigures(
        closure_ratio=_share_closed(rendered, _closures(recorded, speech)),
        closure_precision=_share_closed(recorded, _closures(rendered, speech)),
        opening_ratio=float(rendered[chosen].std() / recorded[chosen].std()) if moves else None,
    )


def compare_with_lip_truth(rendered: np.ndarray, truth: LipTruth) -> TruthFigures:
    """Rendered lips [T] beside what the presenter did."""
    spoken = ~truth.silent
    return TruthFigures(
        truth_closure=_share_closed(rendered, runs_of(truth.closed)),
        truth_opening_error=known(mean_of_known(np.abs(rendered - truth.lip_opening)[spoken])),
        truth_opening_silence=known(mean_of_known(rendered[truth.silent])),
        truth_jitter_silence=known(lip_jitter(rendered, truth.silent)),
    )


def _closures(opening: np.ndarray, speech: np.ndarray) -> list[tuple[int, int]]:
    """First and past-the-last frame of each closure [T] within speech [T]."""
    with np.errstate(invalid="ignore"):
        closed = opening < CLOSED_BELOW
    return [
        (start, end)
        for start, end in runs_of(closed)
        if end - start <= _MAX_CLOSURE_FRAMES and speech[max(0, start - 1) : end + 1].all()
    ]


def _share_closed(opening: np.ndarray, closures: list[tuple[int, int]]) -> float | None:
    """Of some closures, those that an opening [T] has too; None where there are none."""
    lows = [opening[max(0, start - _SLACK_FRAMES) : end + _SLACK_FRAMES] for start, end in closures]
    known_lows = [np.nanmin(low) for low in lows if np.isfinite(low).any()]
    return float(np.mean([low < CLOSED_BELOW for low in known_lows])) if known_lows else None
