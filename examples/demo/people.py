"""One identity on its way through the demo, and the report on all of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(kw_only=True)
class Person:
    """One identity on its way through the demo."""

    name: str
    video: Path
    audio: Path
    result: Path  # the video that is made
    sentence: str = ""
    fit: dict[str, Any] = field(default_factory=dict)
    render: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """What became of this person, once all steps are done."""
        figures = self.render["figures"]
        return {
            "identity": self.name,
            "ref": self.fit["ref"],
            "promoted": self.fit["promotion"]["promoted"],
            "video": str(self.result),
            "sentence": self.sentence,
            "psnr_db": self.fit["metrics"].get("psnr_db"),
            # Of the new video: the unseen part of a short recording is too short to tell.
            "sync_confidence": self.facts["seen"]["sync_confidence"],
            "sync_offset_frames": self.facts["seen"]["sync_offset_frames"],
            "real_time_factor": figures["real_time_factor"],
            "stage_seconds": {**self.fit["seconds"], "render": figures["render_seconds"]},
            "checks": self.facts,
        }


def print_report(people: Sequence[Mapping[str, Any]], seconds: Mapping[str, float], *, total_s: float) -> None:
    """Tell on standard error what became of everybody and how long the steps took.

    Args:
        people: what ``Person.report`` gives.
        seconds: of each step.
        total_s: of the whole demo.
    """
    for row in people:
        print(
            f"{row['video']}: {row['ref']}{'' if row['promoted'] else ' (not promoted)'}, "
            f"PSNR {_number(row['psnr_db'])} dB on unseen frames, "
            f"sync confidence {_number(row['sync_confidence'])} (offset {_number(row['sync_offset_frames'])} frames), "
            f"real-time factor {_number(row['real_time_factor'])}",
            file=sys.stderr,
        )
        stages = ", ".join(f"{name} {stage_s:.0f} s" for name, stage_s in row["stage_seconds"].items())
        print(f"    {stages}", file=sys.stderr)
    steps = ", ".join(f"{name} {step_s:.0f} s" for name, step_s in seconds.items())
    print(f"steps: {steps}; {total_s / 60:.1f} minutes in all", file=sys.stderr)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
